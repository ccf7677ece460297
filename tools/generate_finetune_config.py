"""A configuration to fine-tune with, sized to a data set and to this machine:

python tools/generate_finetune_config.py --dataset data/my/dataset.yaml --output config_files/my.yaml
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
from alphaction.preparation.config_for import generate_config  # noqa: E402
from alphaction.preparation.prepare_flags import add_config_flags, config_wishes  # noqa: E402

DESCRIPTION = """\
Writes a configuration with comments: number of classes, input size by the videos' size, batch and learning rate by this
machine, schedule by the number of training clips. tools/prepare_dataset.py writes the same one for a new data set.
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog="exit status: 0 made; 1 something is wrong with the data, see the message; 2 wrong flags",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="FILE", help="a dataset.yaml with the splits train and val")
    source.add_argument("--train", metavar="NAME", help="a name of the catalog, or path/to/dataset.yaml:split")
    parser.add_argument("--val", default="", metavar="NAME", help="likewise, to validate on (with --train)")
    parser.add_argument("--output", required=True, metavar="FILE", help="the configuration to write")
    parser.add_argument("--force", action="store_true", help="replace it if it exists")
    add_config_flags(parser)
    args = parser.parse_args()
    if args.dataset and args.val:
        parser.error("--val goes with --train; --dataset names both splits")
    return args


def main() -> None:
    args = parse_args()
    train, val = (f"{args.dataset}:train", f"{args.dataset}:val") if args.dataset else (args.train, args.val)
    command = shlex.join(["python", "tools/generate_finetune_config.py", *sys.argv[1:]])
    wishes = config_wishes(args)
    run_script(
        lambda: print(generate_config(train, val, args.output, wishes=wishes, command=command, force=args.force))
    )


if __name__ == "__main__":
    main()
