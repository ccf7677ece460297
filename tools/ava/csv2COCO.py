"""AVA's CSV annotations as the JSON of the catalog's ava_* entries:

python tools/ava/csv2COCO.py --csv_path data/AVA/annotations/ava_train_v2.2.csv \\
    --movie_list data/AVA/annotations/ava_file_names_trainval_v2.1.txt --img_root data/AVA/keyframes/trainval \\
    --json_path data/AVA/annotations/ava_train_v2.2.json
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
from alphaction.preparation.ava_json import JsonOptions, write_json  # noqa: E402

DESCRIPTION = """\
Every second of --start to --end of every movie becomes an image with id = (place of the movie in the list) * 10000 +
second, as box files for AVA expect. Training does not need this: the CSV can be named as annotation file as it is."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--csv_path", "--csv-path", default="", metavar="FILE", help="AVA CSV; left out: images without annotations"
    )
    parser.add_argument("--movie_list", "--movie-list", required=True, metavar="FILE", help="movies, one per line")
    parser.add_argument("--json_path", "--json-path", default="", metavar="FILE", help="output, indented")
    parser.add_argument("--min_json_path", "--min-json-path", default="", metavar="FILE", help="output, short")
    sizes = parser.add_mutually_exclusive_group(required=True)
    sizes.add_argument(
        "--img_root", "--img-root", default="", metavar="FOLDER", help="keyframes <movie>/<second>.jpg, for the sizes"
    )
    sizes.add_argument("--video_root", "--video-root", default="", metavar="FOLDER", help="or videos, for the sizes")
    sizes.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="or one size for all, in pixels")
    parser.add_argument("--start", type=int, default=902, metavar="S", help="first second (default 902)")
    parser.add_argument("--end", type=int, default=1798, metavar="S", help="last second (default 1798)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    options = JsonOptions(
        movie_list=args.movie_list,
        csv_path=args.csv_path,
        first=args.start,
        last=args.end,
        img_root=args.img_root,
        video_root=args.video_root,
        size=tuple(args.size) if args.size else None,
    )
    run_script(lambda: print(write_json(options, json_path=args.json_path, min_json_path=args.min_json_path)))


if __name__ == "__main__":
    main()
