"""The command line of `tools/visualize_dataset.py`."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from alphaction.errors import UserError
from alphaction.evaluation.files import result_file
from alphaction.evaluation.pictures import evenly_spread, write_picture
from alphaction.preparation.check_split import split_names
from alphaction.preparation.look.build import Looker
from alphaction.preparation.look.sheet import draw_sheet, film_frames


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws; the exit status: 0 done, 1 a fault of the data or no such data set, 2 wrong arguments."""
    parser = _parser()
    args = parser.parse_intermixed_args(arguments)
    if args.num_samples < 1 or args.frames < 1:
        parser.error("--num-samples and --frames: expected at least 1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    written = 0
    try:
        for short, name in split_names([args.dataset_name]):
            written += _draw(args, short, name)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{written} samples drawn to {args.output_dir}\n")
    return 0 if written else 1


def _draw(args: argparse.Namespace, short: str, name: str) -> int:
    looker = Looker(name, config_file=args.config_file, opts=args.opts, train=args.train)
    written = 0
    for number, index in enumerate(evenly_spread(np.arange(len(looker)), args.num_samples).tolist(), start=1):
        look = looker.look(index, epoch=args.epoch)
        if look is None:
            continue
        key = looker.dataset.annotations.key(int(looker.dataset.keyframes[index]))
        mode = "train" if args.train else "test"
        stem = re.sub(r"[^\w.+-]+", "_", f"{short}_{mode}_{number:02d}_{key.movie}_{key.time:g}").strip("._")
        path = Path(args.output_dir) / f"{stem}.jpg"
        write_picture(path, draw_sheet(look, frames=args.frames))
        if args.video:
            write_film(path.with_suffix(".mp4"), film_frames(look), rate=looker.frames_per_second)
        written += 1
    return written


def write_film(path: str | Path, pictures: Sequence[np.ndarray], *, rate: float) -> None:
    """Writes pictures, uint8 [h, w, 3] RGB of one size, as an mp4.

    Args:
        rate: frames per second.

    Raises:
        UserError: the file cannot be written.
    """
    height, width = (side - side % 2 for side in pictures[0].shape[:2])  # the codec halves the colours' size
    name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with result_file(path) as file, av.open(file, mode="w", format="mp4") as container:
        stream = container.add_stream(name, rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"} if name == "libx264" else {"qscale": "3"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draws samples of a data set with their boxes and labels: the annotated keyframe beside frames of "
        "the clip as the loader gives it. Persons are green, pooled regions thin, objects blue, padding hatched.",
        epilog="Exit status: 0 done, 1 a fault of the data or no such data set, 2 wrong arguments.",
    )
    parser.add_argument(
        "--dataset-name", required=True, metavar="NAME", help="path/to/dataset.yaml[:split], or a catalog name"
    )
    parser.add_argument("--num-samples", type=int, default=10, metavar="N", help="samples of each split (default 10)")
    parser.add_argument("--output-dir", default="visualization", metavar="DIR", help="folder for the pictures")
    parser.add_argument("--train", action="store_true", help="clips as training sees them: mirrored, jittered")
    parser.add_argument("--video", action="store_true", help="also write every clip as an mp4")
    parser.add_argument("--frames", type=int, default=5, metavar="N", help="frames of the clip on a sheet (default 5)")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="with --train: another draw of the jitter")
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="whose clips are shown; default: the defaults"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration keys, e.g. INPUT.MIN_SIZE_TEST 320")
    return parser
