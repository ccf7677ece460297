"""Cuts movies into one-second files, as the original prepared AVA:

python tools/ava/process_ava_videos.py --movie_root data/AVA/movies --clip_root data/AVA/clips/trainval
"""

from __future__ import annotations

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # started as a script, Python looks for modules beside it only
    sys.path.insert(0, str(ROOT))

import alphaction.utils.script_start  # noqa: E402, F401 (before PyTorch)
from alphaction.engine.script import run_script  # noqa: E402
from alphaction.preparation.ava_clips import CutOptions, cut_videos  # noqa: E402
from alphaction.preparation.ava_json import read_movie_list  # noqa: E402
from alphaction.preparation.ava_report import cut_report  # noqa: E402

DESCRIPTION = """\
Writes CLIP_ROOT/<movie>/<second>.mp4, each with the frames of one second, and with --kframe_root the first frame of
each as <movie>/<second>.jpg. Needs no ffmpeg program. What is there already is kept: after a stop the same command goes
on.

Training does not need this: whole movies work as well (DATA.md). One-second files take less room and read faster."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog="exit status: 0 all cut; 1 some videos or seconds could not be cut, see the end; 2 wrong flags",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--movie_root", "--movie-root", required=True, metavar="FOLDER", help="the movies")
    parser.add_argument("--clip_root", "--clip-root", required=True, metavar="FOLDER", help="gets the one-second files")
    parser.add_argument("--kframe_root", "--kframe-root", default="", metavar="FOLDER", help="gets the keyframes")
    parser.add_argument("--movie_list", "--movie-list", default="", metavar="FILE", help="cut only these, one per line")
    parser.add_argument(
        "--process_num", "--num-workers", type=int, default=4, metavar="N", help="movies at a time (default 4)"
    )
    parser.add_argument("--start", type=int, default=895, metavar="S", help="first second (default 895)")
    parser.add_argument(
        "--end", type=int, default=1805, metavar="S", help="second to stop before; 0 = all (default 1805)"
    )
    parser.add_argument("--fps", type=float, default=25.0, metavar="F", help="frames per second (default 25)")
    parser.add_argument(
        "--short_side",
        "--short-side",
        type=int,
        default=360,
        metavar="PIXELS",
        help="shorter side at most (default 360)",
    )
    parser.add_argument(
        "--offset",
        type=float,
        default=0.0,
        metavar="S",
        help="the movie's second at which the files begin, for copies of AVA without their first 15 minutes: 900",
    )
    parser.add_argument("--force", action="store_true", help="cut again what is there")
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    def cut() -> None:
        options = CutOptions(
            movie_root=args.movie_root,
            clip_root=args.clip_root,
            keyframe_root=args.kframe_root,
            start=args.start,
            end=args.end or None,
            fps=args.fps,
            short_side=args.short_side,
            offset=args.offset,
            workers=args.process_num,
            movies=tuple(read_movie_list(args.movie_list)) if args.movie_list else None,
            force=args.force,
        )
        result = cut_videos(options)
        print(cut_report(result))
        sys.exit(1 if result.problems else 0)

    run_script(cut)


if __name__ == "__main__":
    main()
