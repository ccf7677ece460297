"""Frame mAP of any detector's CSV file, as AVA's official evaluation computes it:

python tools/evaluate.py --ground-truth ava_val_v2.2.csv --detections result.csv --labelmap map.pbtxt --output results
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started as a script, Python looks for modules beside it only
    sys.path.insert(0, str(ROOT))

import alphaction.utils.script_start  # noqa: E402, F401 (before PyTorch)
from alphaction.engine.script import run_script  # noqa: E402
from alphaction.evaluation import PROTOCOLS  # noqa: E402
from alphaction.evaluation.from_files import evaluate_files  # noqa: E402

DESCRIPTION = """\
Compares detections with ground truth, both CSV files in AVA's format, one line per box and class:

  video,second,x1,y1,x2,y2,class,score      detections
  video,second,x1,y1,x2,y2,class[,person]   ground truth; a line `video,second` is a keyframe without boxes

Corners are shares (0..1) of the frame's width and height. A first line may name the columns. Prints AP per class and
the mean (mAP); what does not count is counted in notes. docs/EVALUATION.md tells more."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog="exit status: 0 evaluated; 1 something is wrong with a file, see the message; 2 wrong flags",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ground-truth", required=True, metavar="FILE", help="CSV file of the true boxes")
    parser.add_argument("--detections", required=True, metavar="FILE", help="CSV file of the predicted boxes")
    parser.add_argument(
        "--labelmap",
        metavar="FILE",
        help="classes that count, .pbtxt or a list (default: those of the ground truth)",
    )
    parser.add_argument("--exclusions", metavar="FILE", help="CSV file `video,second` of keyframes that do not count")
    parser.add_argument(
        "--protocol", choices=list(PROTOCOLS), default="alphaction",
        help="alphaction: every row counts (default); activitynet: the 50 best rows per keyframe, keyframes without "
        "ground truth do not count",
    )  # fmt: skip
    parser.add_argument(
        "--iou", type=thresholds, nargs="+", default=[(0.5,)], metavar="IOU",
        help="overlaps from which a box counts as found, each above 0 and at most 1 (default 0.5); the table is for "
        "the first; `coco` = 0.5 0.55 .. 0.95",
    )  # fmt: skip
    parser.add_argument("--coco-metrics", action="store_true", help="also AP, AP50, AP75 and AR by pycocotools")
    parser.add_argument("--output", metavar="FOLDER", help="write metrics.json and result.log (the table) into it")
    args = parser.parse_args()
    args.iou = tuple(dict.fromkeys(itertools.chain(*args.iou)))  # each once
    return args


def thresholds(text: str) -> tuple[float, ...]:
    if text == "coco":
        return tuple(n / 100 for n in range(50, 100, 5))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number above 0 and at most 1")
    return (value,)


def main() -> None:
    args = parse_args()

    def evaluate() -> None:
        result = evaluate_files(
            args.ground_truth,
            args.detections,
            labelmap=args.labelmap,
            exclusions=args.exclusions,
            protocol=args.protocol,
            iou_thresholds=args.iou,
            with_coco=args.coco_metrics,
        )
        if args.output:
            result.write(args.output)
        print(result.table())

    run_script(evaluate)


if __name__ == "__main__":
    main()
