"""The demo with the flags of the original; `predict.py` can do the same and more.

cd demo
python demo.py --video-path input.mp4 --output-path output.mp4 --cfg-path CONFIG.yaml --weight-path WEIGHTS.pth
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
from alphaction.prediction.outputs import OutputChoice  # noqa: E402
from alphaction.prediction.script import NetworkChoice, VideoChoice, predict_to_files  # noqa: E402

CONFIG = ROOT / "config_files" / "resnet101_8x8f_denseserial.yaml"
WEIGHTS = ROOT / "data" / "models" / "aia_models" / "resnet101_8x8f_denseserial.pth"


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--webcam", action="store_true", help="watch the first camera instead of --video-path")
    parser.add_argument("--video-path", default="input.mp4", metavar="FILE", help="the video (input.mp4)")
    parser.add_argument("--output-path", default="output.mp4", metavar="FILE", help="the annotated video (output.mp4)")
    parser.add_argument("--cpu", action="store_true", help="compute on the processor")
    parser.add_argument(
        "--cfg-path",
        default=None,
        metavar="FILE",
        help=f"configuration (config_files/{CONFIG.name}, or --weight-path's)",
    )
    parser.add_argument("--weight-path", default=str(WEIGHTS), metavar="FILE", help="weights (those of the same name)")
    parser.add_argument(
        "--visual-threshold", type=float, default=0.5, metavar="S", help="lowest score of a label (0.5)"
    )
    parser.add_argument("--start", type=float, default=0, metavar="MS", help="begin here, milliseconds (0)")
    parser.add_argument(
        "--duration", type=float, default=-1, metavar="MS", help="so long, milliseconds (-1: to the end)"
    )
    parser.add_argument("--detect-rate", type=float, default=4, metavar="N", help="moments per second (4)")
    parser.add_argument("--hide-time", action="store_true", help="no clock in the video")
    parser.add_argument("--classes", default="", metavar="FILE", help="ours: class names, for weights that have none")
    parser.add_argument(
        "--boxes", default="auto", metavar="WHERE", help="ours: auto, head, detector or a file of boxes"
    )
    parser.add_argument(
        "--tracker-box-thres", type=float, metavar="S", help="lowest score of a person (TEST.BOX_THRESH)"
    )
    parser.add_argument(
        "--detector-weights", default="", metavar="FILE", help="ours: weights of torchvision's detector"
    )
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_args()
    run_script(lambda: demo(args))


def demo(args: argparse.Namespace) -> None:
    config = args.cfg_path
    if config is None:  # as the original; a checkpoint of ours brings its own configuration
        config = str(CONFIG) if args.weight_path == str(WEIGHTS) else ""
    video = pathlib.Path(args.output_path)
    predict_to_files(
        NetworkChoice(
            weights=args.weight_path,
            config_file=config,
            classes=args.classes,
            device="cpu" if args.cpu else "",
            detector_weights=args.detector_weights,
        ),
        VideoChoice(
            video=0 if args.webcam else args.video_path,
            boxes=args.boxes,
            start=args.start / 1000,
            duration=None if args.duration < 0 else args.duration / 1000,
            detect_rate=args.detect_rate,
            box_threshold=args.tracker_box_thres,
        ),
        OutputChoice(
            video=video,
            detections=video.with_name(f"{video.stem}_detections.jsonl"),
            events=video.with_name(f"{video.stem}_events.csv"),
            visual_threshold=args.visual_threshold,
            hide_time=args.hide_time,
        ),
    )


if __name__ == "__main__":
    main()
