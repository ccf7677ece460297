"""Tests a trained detector: python test_net.py --config-file config_files/quickstart.yaml"""

from __future__ import annotations

import argparse

import alphaction.utils.script_start  # noqa: F401 (before PyTorch)
from alphaction.engine.build import test_from_config
from alphaction.engine.script import add_common_arguments, run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Test a detector on every data set of DATASETS.TEST and print the AP of each class.",
        epilog="Weights: MODEL.WEIGHT if it stands at the end of this command line, else OUTPUT_DIR/last_checkpoint, "
        "else the configuration file's MODEL.WEIGHT.",
    )
    add_common_arguments(parser)
    parser.add_argument(
        "--explain", action="store_true", help="say where predictions are lost, also where the mAP is not low"
    )
    args = parser.parse_intermixed_args()
    run_script(lambda: test_from_config(args.config_file, args.opts, explained=args.explain))


if __name__ == "__main__":
    main()
