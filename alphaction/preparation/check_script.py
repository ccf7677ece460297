"""The command line of `tools/check_dataset.py` and `tools/validate_dataset.py`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from alphaction.errors import UserError
from alphaction.evaluation.files import result_file
from alphaction.preparation.check import BOX_THRESHOLD, CLIP_SECONDS, check_dataset
from alphaction.preparation.check_html import write_html
from alphaction.preparation.check_split import split_names
from alphaction.preparation.check_text import VIDEOS, report_text

FOUND_ERRORS = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks and tells; the exit status: 0 no error, 1 errors or no such data set, 2 wrong arguments."""
    parser = _parser()
    args = parser.parse_args(arguments)
    names = [*args.names, *args.dataset_name]
    if not names:
        parser.error("name a data set: path/to/dataset.yaml, path/to/dataset.yaml:split, or one of the catalog")
    if min(args.rows, args.videos, args.pictures) < 0 or not (args.clip_seconds > 0 and 0 <= args.box_thresh <= 1):
        parser.error(
            "--rows, --videos and --pictures: expected 0 or more; --clip-seconds: above 0; --box-thresh: 0 to 1"
        )
    try:
        split_names(names)  # all of them, before the first is looked into
        with _without_warnings():
            report = check_dataset(
                names, decode=not args.no_decode, clip_seconds=args.clip_seconds, box_threshold=args.box_thresh
            )
        sys.stdout.write(report_text(report, rows=args.rows, videos=args.videos) + "\n")
        if args.json:
            with result_file(args.json, text=True) as file:
                json.dump(report.as_json(), file, indent=1, ensure_ascii=False)
        if args.html:
            write_html(report, args.html, pictures=args.pictures)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return FOUND_ERRORS
    return FOUND_ERRORS if report.findings.count("error") else 0


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What the data set's reader warns of are findings of the report."""
    logger = logging.getLogger("alphaction.dataset")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Says what a data set holds and what is wrong with it, with file and row. docs/DATA_CHECKS.md "
        "explains every message.",
        epilog="Exit status: 0 no error, 1 errors or no such data set, 2 wrong arguments.",
    )
    parser.add_argument("names", nargs="*", metavar="DATASET", help="path/to/dataset.yaml[:split], or a catalog name")
    parser.add_argument("--dataset-name", action="append", default=[], metavar="NAME", help="the same, as an option")
    parser.add_argument("--no-decode", action="store_true", help="look at the headers of videos only")
    parser.add_argument("--html", default="", metavar="FILE", help="write a page with pictures")
    parser.add_argument("--json", default="", metavar="FILE", help="write all tables and findings for programs")
    parser.add_argument("--pictures", type=int, default=2, metavar="N", help="pictures per class and fault in --html")
    parser.add_argument("--rows", type=int, default=10, metavar="N", help="findings of a kind to list, 0 = all")
    parser.add_argument("--videos", type=int, default=VIDEOS, metavar="N", help="videos to list, 0 = all")
    parser.add_argument(
        "--box-thresh", type=float, default=BOX_THRESHOLD, metavar="SCORE", help="TEST.BOX_THRESH of your configuration"
    )
    parser.add_argument(
        "--clip-seconds",
        type=float,
        default=CLIP_SECONDS,
        metavar="S",
        help="length of a clip: INPUT.FRAME_NUM x INPUT.FRAME_SAMPLE_RATE / INPUT.FRAME_RATE",
    )
    return parser
