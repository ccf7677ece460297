"""Your annotations as COCO JSON, split into train.json and val.json as in the fine-tuning guide:

python tools/create_annotations.py --videos my/videos --annotations my/annotations.csv --output data/my/annotations
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
from alphaction.preparation.prepare_coco import create_annotations  # noqa: E402
from alphaction.preparation.prepare_flags import ANNOTATION_FORMS, add_data_flags, data_options  # noqa: E402

DESCRIPTION = f"""\
Writes train.json and val.json (COCO: images "video/seconds.jpg", boxes in pixels, an annotation per action) and val.csv
(AVA's form, to evaluate with) from annotations of any form. tools/prepare_dataset.py does this and all the rest, too.

{ANNOTATION_FORMS}"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog="exit status: 0 made; 1 something is wrong with the data, see the message; 2 wrong flags",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_flags(parser)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the three files")
    parser.add_argument("--force", action="store_true", help="replace them if they exist")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    run_script(lambda: print(create_annotations(data_options(args), args.output, force=args.force)))


if __name__ == "__main__":
    main()
