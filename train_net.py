"""Trains a spatio-temporal action detector: python train_net.py --config-file config_files/quickstart.yaml"""

from __future__ import annotations

import argparse

import alphaction.utils.script_start  # noqa: F401 (before PyTorch)
from alphaction.engine.build import TrainFlags, train_from_config
from alphaction.engine.script import add_common_arguments, run_script


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train or fine-tune a spatio-temporal action detector, validate it, and test it at the end.",
        epilog="A file `last_checkpoint` in OUTPUT_DIR comes first: the same command, started again, goes on where it "
        "stopped. To start afresh choose another OUTPUT_DIR or delete that file.",
    )
    add_common_arguments(parser)
    parser.add_argument(
        "--transfer",
        action="store_true",
        help="take only the weights from MODEL.WEIGHT: iteration 0, fresh optimizer and schedule",
    )
    parser.add_argument(
        "--no-head",
        action="store_true",
        help="leave the head as initialised (needed when the number of classes differs from the weight file's)",
    )
    parser.add_argument(
        "--adjust-lr",
        action="store_true",
        help="resume, but with this configuration's learning rate schedule at the saved iteration",
    )
    parser.add_argument("--use-tfboard", action="store_true", help="write TensorBoard events to OUTPUT_DIR")
    parser.add_argument(
        "--skip-val-in-train", action="store_true", help="no validation every SOLVER.EVAL_PERIOD iterations"
    )
    parser.add_argument("--skip-final-test", action="store_true", help="no test on DATASETS.TEST after training")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, make a few steps and test a few batches, estimate time, memory and disk of the whole "
        "run, and end; OUTPUT_DIR is left as it is",
    )
    parser.add_argument("--seed", type=int, default=2, help="seed of weights, order and augmentation (default 2)")
    return parser.parse_intermixed_args()


def main() -> None:
    args = parse_args()
    flags = TrainFlags(
        transfer=args.transfer,
        no_head=args.no_head,
        adjust_lr=args.adjust_lr,
        tensorboard=args.use_tfboard,
        skip_validation=args.skip_val_in_train,
        skip_final_test=args.skip_final_test,
        seed=args.seed,
        dry_run=args.dry_run,
    )
    run_script(lambda: train_from_config(args.config_file, args.opts, flags))


if __name__ == "__main__":
    main()
