"""The work of `tools/export.py`: a checkpoint in, a file for other programs out, compared before it appears."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from alphaction.errors import ConfigError, UserError
from alphaction.export.build import Prepared, prepare
from alphaction.export.compare import TOLERANCE, Difference, Speed, differences, example, speed
from alphaction.export.facts import facts_of
from alphaction.export.formats import FORMATS, Format
from alphaction.utils.atomic import write_text
from alphaction.utils.logging import setup_logging

#: Of the clips that the pass is recorded with, where the file takes any size.
_ANY_SIZE = (64, 96)
_SMALLEST = 32  # pixels: less has no cell after the backbone's stages
_PIXELS = {"uint8": torch.uint8, "float32": torch.float32}


@dataclass(frozen=True)
class ExportChoice:
    """What is exported, and to where.

    Attributes:
        output: the file; a JSON file of its facts is written beside it.
        format: a name of `formats.FORMATS`.
        weights: checkpoint; "" = as a test of the configuration takes it.
        config_file: "" = the configuration in the checkpoint.
        classes: file of class names; "" = those in the checkpoint.
        size: (height, width) with padding of the only clips that the file takes, pixels; None = any.
        pixels: type of the clips, uint8 or float32.
        video, boxes: what the file is compared on; "" = DATASETS.TEST, or drawn figures.
        options: `[key, value, ...]`.
    """

    output: pathlib.Path
    format: str
    weights: str = ""
    config_file: str = ""
    classes: str = ""
    size: tuple[int, int] | None = None
    pixels: str = "uint8"
    video: str = ""
    boxes: str = ""
    options: Sequence[str] = ()


def export_to_file(choice: ExportChoice) -> list[Difference]:
    """Writes the file and its facts, if it computes what the network computes; tells how far they are apart.

    Raises:
        UserError: anything the user can mend, or the file differs from the network: then nothing is left.
    """
    setup_logging(None)
    kind = FORMATS[choice.format]
    _check(choice, kind)
    prepared = prepare(
        choice.weights or None,
        config=choice.config_file or None,
        classes=choice.classes or None,
        options=choice.options,
        pixels=_PIXELS[choice.pixels],
        video=choice.video,
        boxes=choice.boxes,
    )
    with tempfile.TemporaryDirectory(dir=choice.output.parent, prefix=f".{choice.output.name}.") as folder:
        path = pathlib.Path(folder) / choice.output.name
        found = _write_and_compare(prepared, choice, kind, path)
        facts_path = path.with_name(path.name + ".json")
        facts = facts_of(prepared.network, prepared.opened, size=choice.size)
        write_text(facts_path, text=json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        for part in sorted(pathlib.Path(folder).iterdir()):
            os.replace(part, choice.output.with_name(part.name))
    print(f"written: {choice.output} ({os.path.getsize(choice.output) / 1e6:.1f} MB), {choice.output}.json")
    return found


def _check(choice: ExportChoice, kind: Format) -> None:
    """Before anything slow."""
    kind.check_installed()
    if choice.output.suffix != kind.suffix:
        raise ConfigError(
            f"--output: got {choice.output}, expected a name that ends in {kind.suffix} (--format {kind.name})"
        )
    if choice.size is not None and min(choice.size) < _SMALLEST:
        raise ConfigError(
            f"--height, --width: got {choice.size[0]} and {choice.size[1]}, expected pixels, {_SMALLEST} or more"
        )
    if choice.weights and os.path.realpath(choice.weights) == os.path.realpath(choice.output):
        raise ConfigError(f"--output: {choice.output} is the checkpoint itself; give another name")
    for path in (choice.output, choice.output.with_name(choice.output.name + ".json")):
        if path.is_dir():
            raise UserError(f"{path}: is a folder, expected a file or nothing; give another --output")
    folder = choice.output.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); give another --output") from None


def _write_and_compare(prepared: Prepared, choice: ExportChoice, kind: Format, path: pathlib.Path) -> list[Difference]:
    network, opened = prepared.network, prepared.opened
    start = time.perf_counter()
    kind.write(
        opened,
        path,
        example=example(network, opened, size=choice.size or _ANY_SIZE),
        facts=facts_of(network, opened, size=choice.size),
        any_size=choice.size is None,
    )
    print(f"{kind.name} of {network.source}: made in {time.perf_counter() - start:.1f} s")
    compute, facts = kind.read(path)
    if facts.get("classes") != list(network.classes.names):
        raise ValueError(f"{path}: read back classes {facts.get('classes')}, expected {network.classes.names}")
    found = differences(network, opened, compute, prepared.clips.samples, size=choice.size)
    print(f"the file and PyTorch on {prepared.clips.origin}:")
    print(_table(found))
    worst = max(found, key=lambda one: one.largest)
    if not worst.largest <= TOLERANCE:
        raise UserError(
            f"{choice.output}: not written: the {kind.name} file differs from PyTorch by {worst.largest:.2g} with "
            f"{worst.clips} clips and {worst.persons} persons, expected at most {TOLERANCE:g}. Try another --format, "
            "or other versions of PyTorch and onnxruntime"
        )
    print(_speed_line(speed(network, opened, compute, prepared.clips.samples[0], size=choice.size)))
    return found


def _table(found: Sequence[Difference]) -> str:
    lines = ["  clips  persons  objects     size  scores apart  features apart (share of the largest)"]
    for one in found:
        size = f"{one.size[0]}x{one.size[1]}"
        lines.append(
            f"  {one.clips:5d}  {one.persons:7d}  {one.objects:7d}  {size:>7}  {one.scores:12.1e}  {one.features:.1e}"
        )
    return "\n".join(lines)


def _speed_line(one: Speed) -> str:
    return (
        f"one clip of {one.size[0]}x{one.size[1]} with {one.persons} persons on this processor, "
        f"{torch.get_num_threads()} threads: PyTorch {one.network:.3f} s, the file {one.file:.3f} s"
    )
