"""Finds the persons (or objects) in every keyframe and writes the box file that testing reads:

python tools/detect_persons.py data/my/dataset.yaml:val --output data/my/boxes/val.json
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
from alphaction.preparation.detect import DetectOptions, check_output, detect  # noqa: E402
from alphaction.preparation.detect_frames import (  # noqa: E402
    FrameSet,
    dataset_frames,
    picture_frames,
    video_frames,
)
from alphaction.preparation.detect_models import DEFAULT_DETECTOR, load_detector  # noqa: E402

DESCRIPTION = """\
Runs a detector of torchvision on the keyframes of a data set, on moments of videos, or on pictures. Its weights are
fetched once; without a network the message says which file to fetch and where to put it. After a stop the same command
goes on."""
EXAMPLES = """\
examples:
  python tools/detect_persons.py data/my/dataset.yaml:val --output data/my/boxes/val.json
  python tools/detect_persons.py data/my/dataset.yaml:train --objects --output data/my/boxes/train_objects.json
  python tools/detect_persons.py --videos my/videos --step 1 --output boxes.json
  python tools/detect_persons.py --keyframes data/YOUR_DATASET/keyframes/val --output boxes.json

exit status: 0 written (pictures that could not be read are named); 1 not written, see the message; 2 wrong flags
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("data_set", nargs="?", metavar="DATASET", help="path/to/dataset.yaml:split, or a catalog name")
    what.add_argument("--dataset-name", metavar="DATASET", help="the same, as an option")
    what.add_argument("--videos", metavar="FOLDER", help="videos without annotations; see --step")
    what.add_argument("--keyframes", metavar="FOLDER", help="pictures FOLDER/<video>/0001.jpg; their names are the ids")
    parser.add_argument("--output", required=True, metavar="FILE", help="the box file (JSON)")
    parser.add_argument("--objects", action="store_true", help="write everything but persons instead of persons")
    parser.add_argument(
        "--detector", default=DEFAULT_DETECTOR, metavar="NAME", help=f"of torchvision (default {DEFAULT_DETECTOR})"
    )
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="its weights (default: those it is published with)"
    )
    parser.add_argument("--num-classes", type=int, metavar="N", help="labels of --weights, background included")
    parser.add_argument("--person-label", type=int, default=1, metavar="N", help="label of persons (default 1)")
    parser.add_argument("--min-score", type=float, default=0.05, metavar="S", help="lowest score (default 0.05)")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N", help="pictures at a time (default 4)")
    parser.add_argument("--num-workers", type=int, default=2, metavar="N", help="reading processes (default 2)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument("--step", type=float, default=1.0, metavar="S", help="--videos: seconds between pictures (1)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="--videos: first second (0)")
    parser.add_argument("--end", type=float, metavar="S", help="--videos: second to stop before (the video's end)")
    parser.add_argument("--force", action="store_true", help="replace an existing box file")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    name = args.data_set or args.dataset_name or ""
    options = DetectOptions(
        output=args.output,
        objects=args.objects,
        min_score=args.min_score,
        batch_size=args.batch_size,
        workers=args.num_workers,
        force=args.force,
    )

    def pictures() -> FrameSet:
        if args.videos:
            return video_frames(args.videos, step=args.step, start=args.start, end=args.end)
        return picture_frames(args.keyframes) if args.keyframes else dataset_frames(name)

    def run() -> None:
        check_output(options)
        frames = pictures()
        detector = load_detector(
            args.detector,
            weights=args.weights,
            num_classes=args.num_classes,
            person=args.person_label,
            min_score=args.min_score,
            device=args.device,
        )
        print(detect(frames, detector, options))

    run_script(run)


if __name__ == "__main__":
    main()
