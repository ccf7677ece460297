"""Cuts your videos into one-second files and keyframes, in the folders of the fine-tuning guide:

python tools/process_custom_videos.py --input my/videos --output data/YOUR_DATASET --split train
"""

from __future__ import annotations

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started as a script, Python looks for modules beside it only
    sys.path.insert(0, str(ROOT))

import alphaction.utils.script_start  # noqa: E402, F401 (before PyTorch)
from alphaction.engine.script import run_script  # noqa: E402
from alphaction.errors import DataError  # noqa: E402
from alphaction.preparation.ava_clips import CutOptions, cut_videos  # noqa: E402
from alphaction.preparation.ava_report import cut_report  # noqa: E402

DESCRIPTION = """\
Writes OUTPUT/clips/SPLIT/<video>/0001.mp4 and OUTPUT/keyframes/SPLIT/<video>/0001.jpg, one of each per second. What is
there already is kept. Nothing needs this: tools/prepare_dataset.py and training take whole videos of any length."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog="exit status: 0 all cut; 1 some videos or seconds could not be cut, see the end; 2 wrong flags",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", required=True, metavar="FOLDER", help="the videos")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="gets the folders clips and keyframes")
    parser.add_argument("--split", default="train", metavar="NAME", help="name of the folders inside (default train)")
    parser.add_argument("--fps", type=float, default=25.0, metavar="F", help="frames per second (default 25)")
    parser.add_argument(
        "--clip-length", type=float, default=1.0, metavar="S", help="1, the length that the loader reads"
    )
    parser.add_argument("--start-time", type=int, default=0, metavar="S", help="first second (default 0)")
    parser.add_argument("--end-time", type=int, metavar="S", help="second to stop before (default: the video's end)")
    parser.add_argument("--short-side", type=int, default=360, metavar="PIXELS", help="at most (default 360)")
    parser.add_argument("--num-workers", type=int, default=4, metavar="N", help="videos at a time (default 4)")
    parser.add_argument("--force", action="store_true", help="cut again what is there")
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    def cut() -> None:
        if args.clip_length != 1:
            raise DataError(
                f"--clip-length: got {args.clip_length:g}, expected 1: the loader joins files of one second. Clips of "
                "any length are cut in training from whole videos, which need no cutting beforehand"
            )
        output = pathlib.Path(args.output)
        options = CutOptions(
            movie_root=args.input,
            clip_root=str(output / "clips" / args.split),
            keyframe_root=str(output / "keyframes" / args.split),
            start=args.start_time,
            end=args.end_time,
            fps=args.fps,
            short_side=args.short_side,
            digits=4,
            workers=args.num_workers,
            force=args.force,
        )
        result = cut_videos(options)
        print(cut_report(result))
        sys.exit(1 if result.problems else 0)

    run_script(cut)


if __name__ == "__main__":
    main()
