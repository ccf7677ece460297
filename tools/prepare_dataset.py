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

from alphaction.engine.script import run_script  # noqa: E402
from alphaction.preparation.config_writer import BODIES  # noqa: E402
from alphaction.preparation.prepare import Options, prepare  # noqa: E402
from alphaction.preparation.prepare_boxes import FORMATS  # noqa: E402
from alphaction.preparation.prepare_gather import Reading  # noqa: E402
from alphaction.preparation.prepare_times import BASES  # noqa: E402
from alphaction.preparation.sources_cvat import ACTIONS_FROM  # noqa: E402

DESCRIPTION = """\
Makes a data set from videos and annotations: dataset.yaml, annotations split by video, class list, person boxes, and a
config.yaml that is ready to train with. Videos stay where they are. The report says what was assumed and why; what is
not evident ends with an error that names the flag to decide it. Nothing is written unless all went well.

annotations, told apart by their content (several files, or a folder):
  CSV with a header   video,time,x1,y1,x2,y2,action      time in seconds, or a column `frame`; boxes in pixels or 0..1;
                                                         action: a name or a number; optional column person_id
  AVA CSV             no header: video_id, second, x1, y1, x2, y2, action_id[, person_id]
  COCO JSON           images with video and timestamp / frame_idx, or file_name "video/12.5.jpg"
  AVA JSON            as the original AlphAction
  CVAT XML 1.1        "CVAT for video" or "for images", .xml or the exported .zip; attributes or labels are actions
"""
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
    add = parser.add_argument
    add("--videos", required=True, metavar="FOLDER", help="folder of the videos (subfolders too)")
    add("--annotations", required=True, nargs="+", metavar="PATH", help="annotation files, or a folder of them")
    add("--output", required=True, metavar="FOLDER", help="the new data set")
    add("--name", default="", help="name of the data set (default: that of the output folder)")
    add("--classes", default="", metavar="FILE", help="class list: lines `1: walk`, a .pbtxt, .csv or .json")
    add("--person-boxes", nargs="+", default=(), metavar="FILE", help="boxes of a person detector, any form of DATA.md")
    group = parser.add_argument_group("split by video")
    group.add_argument(
        "--val-share",
        type=_share,
        metavar="SHARE",
        help="part of the videos to validate on (default 0.2; annotation files called train and val decide otherwise)",
    )
    group.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    group.add_argument("--train-list", default="", metavar="FILE", help="names of the training videos, one per line")
    group.add_argument("--val-list", default="", metavar="FILE", help="names of the validation videos, one per line")
    group = parser.add_argument_group("when it is not evident")
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
    group = parser.add_argument_group("what is kept")
    group.add_argument(
        "--keyframe-step",
        type=_seconds,
        metavar="SECONDS",
        help="one keyframe per so many seconds, 0 = all (default: 1 where every frame is annotated, else all)",
    )
    group.add_argument(
        "--skip-bad", action="store_true", help="leave out rows that cannot be used, instead of an error"
    )
    group.add_argument("--force", action="store_true", help="replace a data set that this tool made before")
    group = parser.add_argument_group("config.yaml")
    group.add_argument("--from-scratch", action="store_true", help="no weights to start from: a small network")
    group.add_argument(
        "--weights", default="", metavar="FILE", help="MODEL.WEIGHT (default: the body's, see MODEL_ZOO.md)"
    )
    group.add_argument("--body", choices=BODIES, default="", help="network (default: Slowfast-Resnet50, or Tiny)")
    group.add_argument(
        "--epochs", type=int, default=0, help="passes over the training clips (default: by their number)"
    )
    return parser.parse_args()


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected 0 or more and below 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"got {text}, expected seconds, 0 or more")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e4:
        raise argparse.ArgumentTypeError(f"got {text}, expected frames per second, above 0")
    return value


def main() -> None:
    args = vars(parse_args())
    reading = Reading(args.pop("box_format"), args.pop("time_base"), args.pop("fps"))
    command = shlex.join(["python", "tools/prepare_dataset.py", *sys.argv[1:]])
    run_script(lambda: print(prepare(Options(reading=reading, **args), command=command).report))


if __name__ == "__main__":
    main()
