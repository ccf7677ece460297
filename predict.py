"""Who does what, when and where in a video:

python predict.py --config-file config_files/quickstart.yaml --video in.mp4 --boxes detector
"""

from __future__ import annotations

import argparse
import pathlib

import alphaction.utils.script_start  # noqa: F401 (before PyTorch)
from alphaction.engine.script import run_script
from alphaction.prediction.events import EventRule
from alphaction.prediction.outputs import OutputChoice, default_folder
from alphaction.prediction.predictor import DETECT_RATE
from alphaction.prediction.script import NetworkChoice, VideoChoice, predict_to_files
from alphaction.preparation.detect_models import DEFAULT_DETECTOR
from alphaction.utils.logging import setup_logging

DESCRIPTION = """\
Finds the persons of a video, follows them, tells what each of them does, and writes an annotated video (annotated.mp4),
everything that was seen (detections.jsonl) and who did what from when to when (events.csv). docs/PREDICT.md describes
the files and all settings."""
EXAMPLES = """\
examples:
  python predict.py --weights data/output/my_run/model_final.pth --video in.mp4
  python predict.py --config-file config_files/my.yaml --video in.mp4 --boxes boxes.csv --output results/
  python predict.py --weights model.pth --webcam --detect-rate 2 INPUT.MIN_SIZE_TEST 128
  python predict.py --weights model.pth --video rtsp://camera/stream --no-video

exit status: 0 written; 1 an error, see the message; 130 and 143 stopped by Ctrl-C and SIGTERM, what is written so far
is whole
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--video", metavar="FILE", help="a video file; or a URL (rtsp://...), a named pipe, - for stdin")
    what.add_argument("--webcam", nargs="?", const=0, type=int, metavar="N", help="a camera of this machine (N = 0)")
    _add_network(parser.add_argument_group("network"))
    _add_persons(parser.add_argument_group("persons and moments"))
    _add_output(parser.add_argument_group("results"))
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="configuration keys to change, e.g. INPUT.MIN_SIZE_TEST 128"
    )
    return parser.parse_intermixed_args()


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--weights", default="", metavar="FILE", help="checkpoint (default: that of --config-file)")
    group.add_argument("--config-file", default="", metavar="FILE", help="YAML file (default: that in the checkpoint)")
    group.add_argument("--classes", default="", metavar="FILE", help="class names (default: those in the checkpoint)")
    group.add_argument("--device", default="", help="auto, cpu, cuda or cuda:N (default: MODEL.DEVICE)")
    group.add_argument("--batch-size", type=int, metavar="N", help="clips at a time (default TEST.VIDEOS_PER_BATCH)")


def _add_persons(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--boxes",
        default="auto",
        metavar="WHERE",
        help="where persons come from: head (the network's person head), detector (torchvision's), a FILE of boxes, or "
        "auto: the head if there is one, else the detector (default)",
    )
    group.add_argument("--detector", default=DEFAULT_DETECTOR, metavar="NAME", help=f"default {DEFAULT_DETECTOR}")
    group.add_argument("--detector-weights", default="", metavar="FILE", help="default: as torchvision publishes them")
    group.add_argument(
        "--box-threshold",
        type=float,
        metavar="S",
        help="lowest score of a person (TEST.BOX_THRESH)",
    )
    group.add_argument(
        "--detect-rate", type=float, default=DETECT_RATE, metavar="N", help=f"moments per second ({DETECT_RATE:g})"
    )
    group.add_argument("--start", type=float, default=0.0, metavar="S", help="first second to look at (0)")
    group.add_argument("--duration", type=float, metavar="S", help="seconds to look at (default: to the end)")


def _add_output(group: argparse._ArgumentGroup) -> None:
    rule = EventRule()
    group.add_argument(
        "--output",
        default="",
        metavar="FOLDER",
        help="default: data/output/predict/<name of the video>; with _2, _3 where that of another video is there",
    )
    group.add_argument("--no-video", action="store_true", help="do not write annotated.mp4 (quicker)")
    group.add_argument("--visual-threshold", type=float, default=0.5, metavar="S", help="lowest score of a label (0.5)")
    group.add_argument("--hide-time", action="store_true", help="no clock in the video")
    group.add_argument("--fps", type=float, default=0.0, metavar="N", help="most frames per second of the video (all)")
    group.add_argument(
        "--font", default="", metavar="FILE", help="font for class names that the usual one cannot write"
    )
    group.add_argument(
        "--event-high", type=float, default=rule.high, metavar="S", help=f"an event begins ({rule.high})"
    )
    group.add_argument("--event-low", type=float, default=rule.low, metavar="S", help=f"and may sink to ({rule.low})")
    group.add_argument(
        "--event-smooth", type=float, default=rule.smooth, metavar="S", help=f"seconds of smoothing ({rule.smooth:g})"
    )
    group.add_argument(
        "--event-min", type=float, default=rule.min_duration, metavar="S", help=f"shortest ({rule.min_duration:g} s)"
    )
    group.add_argument(
        "--event-gap", type=float, default=rule.max_gap, metavar="S", help=f"gaps that are bridged ({rule.max_gap:g} s)"
    )


def main() -> None:
    args = parse_args()
    run_script(lambda: predict(args))


def predict(args: argparse.Namespace) -> None:
    setup_logging(None)
    video = args.video if args.video is not None else args.webcam
    folder = pathlib.Path(args.output) if args.output else default_folder(video)
    predict_to_files(
        NetworkChoice(
            weights=args.weights,
            config_file=args.config_file,
            classes=args.classes,
            device=args.device,
            batch_size=args.batch_size,
            detector=args.detector,
            detector_weights=args.detector_weights,
            options=args.opts,
        ),
        VideoChoice(
            video=video,
            boxes=args.boxes,
            start=args.start,
            duration=args.duration,
            detect_rate=args.detect_rate,
            box_threshold=args.box_threshold,
        ),
        OutputChoice(
            video=None if args.no_video else folder / "annotated.mp4",
            detections=folder / "detections.jsonl",
            events=folder / "events.csv",
            visual_threshold=args.visual_threshold,
            hide_time=args.hide_time,
            fps=args.fps,
            font=args.font,
            rule=EventRule(
                high=args.event_high,
                low=args.event_low,
                smooth=args.event_smooth,
                min_duration=args.event_min,
                max_gap=args.event_gap,
            ),
        ),
    )


if __name__ == "__main__":
    main()
