"""Makes what docs/TUTORIAL.md begins with: python tools/make_example.py --output street"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout that is not installed

import alphaction.utils.script_start  # noqa: E402, F401 (before PyTorch)
from alphaction.engine.script import run_script  # noqa: E402
from alphaction.synthetic.example import generate  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws a folder of short videos and a table of who stands and walks.")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="is created")
    parser.add_argument("--videos", type=int, default=24, metavar="N", help="how many, 12 seconds each (default 24)")
    args = parser.parse_args()
    if args.videos < 2:
        parser.error("--videos: expected 2 or more, to train on some and to test on others")
    table = generate(args.output, videos=args.videos)
    print(f"{args.videos} videos in {Path(args.output) / 'videos'}, {table}")


if __name__ == "__main__":
    run_script(main)
