"""The command-line flags of the tools that read a user's videos and annotations."""

from __future__ import annotations

import argparse

from alphaction.preparation.config_writer import BODIES
from alphaction.preparation.prepare_boxes import FORMATS
from alphaction.preparation.prepare_collect import DataOptions
from alphaction.preparation.prepare_gather import Reading
from alphaction.preparation.prepare_report import ConfigWishes
from alphaction.preparation.prepare_times import BASES
from alphaction.preparation.sources_cvat import ACTIONS_FROM

ANNOTATION_FORMS = """\
annotations, told apart by their content (several files, or a folder):
  CSV with a header   video,time,x1,y1,x2,y2,action      time in seconds, or a column `frame`; boxes in pixels or 0..1;
                                                         action: a name or a number; optional column person_id
  AVA CSV             no header: video_id, second, x1, y1, x2, y2, action_id[, person_id]
  COCO JSON           images with video and timestamp / frame_idx, or file_name "video/12.5.jpg"
  AVA JSON            as the original AlphAction
  CVAT XML 1.1        "CVAT for video" or "for images", .xml or the exported .zip; attributes or labels are actions
"""


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `data_options` reads."""
    parser.add_argument("--videos", required=True, metavar="FOLDER", help="folder of the videos (subfolders too)")
    parser.add_argument(
        "--annotations", required=True, nargs="+", metavar="PATH", help="annotation files, or a folder of them"
    )
    parser.add_argument(
        "--classes", default="", metavar="FILE", help="class list: lines `1: walk`, a .pbtxt, .csv or .json"
    )
    _add_split_flags(parser.add_argument_group("split by video"))
    _add_reading_flags(parser.add_argument_group("when it is not evident"))
    group = parser.add_argument_group("what is kept")
    group.add_argument(
        "--keyframe-step",
        type=_seconds,
        metavar="SECONDS",
        help="one keyframe per so many seconds, 0 = all (default: 1 where every frame is annotated, else all)",
    )
    group.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used; default: an error")


def data_options(args: argparse.Namespace) -> DataOptions:
    return DataOptions(
        videos=args.videos,
        annotations=args.annotations,
        classes=args.classes,
        person_boxes=getattr(args, "person_boxes", ()),
        val_share=args.val_share,
        seed=args.seed,
        train_list=args.train_list,
        val_list=args.val_list,
        keyframe_step=args.keyframe_step,
        reading=Reading(args.box_format, args.time_base, args.fps),
        class_base=args.class_base,
        actions_from=args.actions_from,
        attributes=args.attributes,
        skip_bad=args.skip_bad,
    )


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `config_wishes` reads."""
    group = parser.add_argument_group("config.yaml")
    group.add_argument("--from-scratch", action="store_true", help="no weights to start from: a small network")
    group.add_argument(
        "--weights", default="", metavar="FILE", help="MODEL.WEIGHT (default: the body's, see MODEL_ZOO.md)"
    )
    group.add_argument("--body", choices=BODIES, default="", help="network (default: Slowfast-Resnet50, or Tiny)")
    group.add_argument(
        "--epochs", type=_count, default=0, help="passes over the training clips (default: by their number)"
    )


def config_wishes(args: argparse.Namespace) -> ConfigWishes:
    return ConfigWishes(args.from_scratch, args.weights, args.body, args.epochs)


def _add_split_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--val-share",
        type=_share,
        metavar="SHARE",
        help="part of the videos to validate on (default 0.2; annotation files called train and val decide otherwise)",
    )
    group.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    group.add_argument("--train-list", default="", metavar="FILE", help="names of the training videos, one per line")
    group.add_argument("--val-list", default="", metavar="FILE", help="names of the validation videos, one per line")


def _add_reading_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--box-format",
        choices=FORMATS,
        default="auto",
        help="corners (xyxy) or left, top, width, height (xywh), in pixels or in shares 0..1",
    )
    group.add_argument("--time-base", choices=BASES, default="auto", help="what times count")
    group.add_argument(
        "--fps", type=_rate, default=0.0, help="rate at which frame numbers count (default: each video's own)"
    )
    group.add_argument("--class-base", type=int, choices=(0, 1), help="number of the first class in the annotations")
    group.add_argument(
        "--actions-from", choices=ACTIONS_FROM, default="auto", help="CVAT: labels or attributes are the actions"
    )
    group.add_argument(
        "--attributes", nargs="+", default=(), metavar="NAME", help="CVAT: only these attributes are actions"
    )


def _share(text: str) -> float:
    return _number(text, "a share: 0 or more and below 1", least=0, below=1)


def _seconds(text: str) -> float:
    return _number(text, "seconds: 0 or more", least=0, below=1e6)


def _rate(text: str) -> float:
    return _number(text, "frames per second: above 0", least=1e-6, below=1e4)


def _count(text: str) -> int:
    return int(_number(text, "a whole number: 1 or more", least=1, below=1e6))


def _number(text: str, expected: str, *, least: float, below: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = below
    if not least <= value < below:
        raise argparse.ArgumentTypeError(f"got {text}, expected {expected}")
    return value
