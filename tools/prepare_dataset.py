"""From your videos and annotations to a data set that trains:

python tools/prepare_dataset.py --videos my/videos --annotations my/annotations.csv --output data/my
"""

from __future__ import annotations

import argparse
import pathlib
import shlex
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started as a script, Python looks for modules beside it only
    sys.path.insert(0, str(ROOT))

import alphaction.utils.script_start  # noqa: E402, F401 (before PyTorch)
from alphaction.engine.script import run_script  # noqa: E402
from alphaction.preparation.prepare import Options, prepare  # noqa: E402
from alphaction.preparation.prepare_flags import (  # noqa: E402
    ANNOTATION_FORMS,
    add_config_flags,
    add_data_flags,
    config_wishes,
    data_options,
)

DESCRIPTION = f"""\
Makes a data set from videos and annotations: dataset.yaml, annotations split by video, class list, person boxes, and a
config.yaml that is ready to train with. Videos stay where they are. The report says what was assumed and why; what is
not evident ends with an error that names the flag to decide it. Nothing is written unless all went well.

{ANNOTATION_FORMS}"""
EXAMPLES = """\
examples:
  python tools/prepare_dataset.py --videos my/videos --annotations my/annotations.csv --output data/my
  python tools/prepare_dataset.py --videos my/videos --annotations job1.zip job2.zip --output data/my --val-share 0.3
  python tools/prepare_dataset.py --videos my/videos --annotations my/coco --output data/my --box-format xyxy-pixels \\
      --time-base frames --train-list train.txt --val-list val.txt --person-boxes boxes.json
  python tools/prepare_dataset.py --videos my/videos --annotations my/annotations.csv --output data/my --force \\
      --skip-bad --from-scratch

exit status: 0 made; 1 something is wrong with the data, see the message; 2 wrong flags
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_flags(parser)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the new data set")
    parser.add_argument("--name", default="", help="name of the data set (default: that of the output folder)")
    parser.add_argument(
        "--person-boxes", nargs="+", default=(), metavar="FILE", help="boxes of a person detector, any form of DATA.md"
    )
    parser.add_argument("--force", action="store_true", help="replace a data set that this tool made before")
    add_config_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    options = Options(data_options(args), args.output, args.name, args.force, config_wishes(args))
    command = shlex.join(["python", "tools/prepare_dataset.py", *sys.argv[1:]])
    run_script(lambda: print(prepare(options, command=command)))


if __name__ == "__main__":
    main()
