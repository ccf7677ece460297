"""A trained network as ONNX, TorchScript or torch.export file, compared with PyTorch before it appears:

python tools/export.py --weights data/output/my_run/model_final.pth --format onnx --output my.onnx
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
from alphaction.export.formats import FORMATS  # noqa: E402
from alphaction.export.script import ExportChoice, export_to_file  # noqa: E402

DESCRIPTION = """\
Writes the network from clips and boxes to scores as one file that takes any number of clips and boxes, with class names
and all that a program needs to make its input (also in FILE.json). Runs the file against PyTorch on real clips; if they
differ by more than 1e-4 nothing is written. docs/EXPORT.md describes the inputs and shows how to run the file."""
EXAMPLES = """\
examples:
  python tools/export.py --config-file config_files/quickstart.yaml --format onnx --output quickstart.onnx
  python tools/export.py --weights model.pth --format onnx --output model.onnx --height 256 --width 464
  python tools/export.py --weights model.pth --format torch.export --output model.pt2 --video in.mp4

exit status: 0 written; 1 an error, see the message; 2 wrong flags
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", required=True, choices=list(FORMATS))
    parser.add_argument("--output", required=True, type=pathlib.Path, metavar="FILE", help="ends in .onnx, .pt or .pt2")
    parser.add_argument("--weights", default="", metavar="FILE", help="checkpoint (default: that of --config-file)")
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML (default: that in the checkpoint)")
    parser.add_argument("--classes", default="", metavar="FILE", help="class names (default: those in the checkpoint)")
    parser.add_argument("--height", type=int, metavar="PX", help="of clips with padding, where the file takes no other")
    parser.add_argument("--width", type=int, metavar="PX", help="(default: any size)")
    parser.add_argument("--pixels", default="uint8", choices=["uint8", "float32"], help="type of the clips (uint8)")
    parser.add_argument(
        "--video", default="", metavar="FILE", help="compare on it (default: DATASETS.TEST, or drawn figures)"
    )
    parser.add_argument("--boxes", default="", metavar="FILE", help="persons of --video (default: made up)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration keys to change")
    args = parser.parse_intermixed_args()
    if (args.height is None) != (args.width is None):
        parser.error("--height and --width: give both, or neither for any size")
    return args


def main() -> None:
    args = parse_args()
    choice = ExportChoice(
        output=args.output,
        format=args.format,
        weights=args.weights,
        config_file=args.config_file,
        classes=args.classes,
        size=None if args.height is None else (args.height, args.width),
        pixels=args.pixels,
        video=args.video,
        boxes=args.boxes,
        options=args.opts,
    )
    run_script(lambda: export_to_file(choice))


if __name__ == "__main__":
    main()
