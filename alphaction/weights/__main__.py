"""`python -m alphaction.weights list | get | convert | inspect`: a script, so it stands above the whole package.

What needs PyTorch is imported by the commands that need it: its import takes seconds, the table none.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from alphaction.errors import CheckpointError
from alphaction.utils.atomic import atomic_write
from alphaction.weights.download import Download, check_sum, fetch, make_folder
from alphaction.weights.table import FOLDER, TABLE, PublicWeights, find

if TYPE_CHECKING:
    from torch import Tensor

_DOWNLOAD_TIMEOUT = 30.0


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m alphaction.weights",
        description="Public weights: which there are, how to get them, what is in a file. MODEL_ZOO.md says more.",
        epilog="Exit status: 0 done, 1 not (one message says why), 2 wrong arguments.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser("list", help="the table of public weights", description="The table of public weights.")
    show.add_argument("part", nargs="?", default="", metavar="TEXT", help="only names with this in them")
    get = commands.add_parser(
        "get",
        help="download a file of the table",
        description="Downloads a file of the table; a download that was interrupted goes on where it stopped. A file "
        "that lies at its place already is checked as far as its checksum is known, and kept.",
    )
    get.add_argument("name", metavar="NAME", help="as `list` shows it, e.g. pyslowfast/SLOWFAST_8x8_R50")
    convert = commands.add_parser(
        "convert",
        help="write a file of another project as one of ours",
        description="Writes the weights of PySlowFast, PyTorchVideo, mmaction2 or torchvision under our names. Not "
        "needed to use them: MODEL.WEIGHT takes such a file as it is.",
    )
    convert.add_argument("file", metavar="FILE")
    convert.add_argument("--output", required=True, metavar="FILE", help="the file to write (.pth)")
    convert.add_argument(
        "--config-file",
        metavar="YAML",
        help="refuse weights that do not fit this network's backbone; needed for networks for images, which are "
        "inflated to its shapes",
    )
    inspect = commands.add_parser("inspect", help="what a file holds and which configurations it fits")
    inspect.add_argument("file", metavar="FILE")
    for command in (show, get):
        command.add_argument("--folder", default=FOLDER, help=f"of all weights (default: {FOLDER})")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    if args.command == "list":
        _list(args)
        return
    from alphaction.engine.script import run_script

    commands = {"get": _get, "convert": _convert, "inspect": _inspect}
    run_script(lambda: commands[args.command](args))


def _list(args: argparse.Namespace) -> None:
    rows = [row for row in TABLE if args.part.lower() in row.name.lower()]
    if not rows:
        sys.exit(f"error: no public weights have {args.part!r} in their name; `list` alone shows all {len(TABLE)}")
    folder = pathlib.Path(args.folder)
    titles = ("name", "trained on", "published", "configuration", "use", "licence", "sha256", "here")
    lines = [titles]
    for row in rows:
        use = "test, train" if row.whole else "train"
        here = "yes" if os.path.exists(folder / row.file) else "get" if row.is_direct else "by hand"
        cells = (row.name, row.trained_on, row.published, row.config or "-", use, row.licence)
        lines.append((*cells, row.sha256[:8] or "unknown", here))
    print(_aligned(lines))
    print(
        "\npublished: as the project tells it, not measured by us. train: a starting point (--transfer --no-head). "
        'here: "get" = `python -m alphaction.weights get NAME` fetches it.'
    )


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _get(args: argparse.Namespace) -> None:
    from alphaction.checkpoint.contents import read_contents

    row = find(args.name)
    target = pathlib.Path(args.folder) / row.file
    if target.exists():
        found = check_sum(target, row.sha256, on_failure="Move it away, then run this again.")
        print(f"{target}: is there already{_how_sure(row)} (SHA-256 {found})")
    elif not row.is_direct:
        raise CheckpointError(_by_browser(row, target))
    else:
        print(f"{row.url}\n  -> {target} (licence of the project: {row.licence})")
        with tqdm(unit="B", unit_scale=True, unit_divisor=1024, disable=None) as bar:

            def show(here: int, total: int | None) -> None:
                bar.total = total
                bar.update(here - bar.n)

            fetch(Download(row.url, target, row.sha256), progress=show, timeout=_DOWNLOAD_TIMEOUT)
        print(f"{target}: done{_how_sure(row)} (SHA-256 {check_sum(target, row.sha256, on_failure='')})")
    print(read_contents(target).text())
    if row.config:
        print(f"Its configuration: config_files/{row.config}.yaml, with MODEL.WEIGHT {target}")


def _how_sure(row: PublicWeights) -> str:
    if not row.sha256:
        return "; its checksum is not published, so it was not compared"
    return ", checksum as published" if len(row.sha256) == 64 else ", first digits of its checksum as published"


def _by_browser(row: PublicWeights, target: pathlib.Path) -> str:
    place = f"put it at {target.absolute()}; a file that lies there is used"
    if row.url:
        return f"{row.name}: Google Drive hands large files to browsers only. Open {row.url}, download it, and {place}."
    return (
        f"{row.name}: no direct address is known; the original's MODEL_ZOO (https://github.com/MVIG-SJTU/AlphAction) "
        f"links it. Download it with a browser and {place}."
    )


def _convert(args: argparse.Namespace) -> None:
    from alphaction.checkpoint.contents import clean, read_contents
    from alphaction.checkpoint.zoo import ImageWeights, inflated
    from alphaction.engine.inspection.build import network_of
    from alphaction.engine.inspection.report import classes_of, compare, with_settings

    output = pathlib.Path(args.output)
    if output.is_dir():
        raise CheckpointError(f"--output {output}: is a folder; name a file, e.g. {output / 'weights.pth'}")
    if os.path.realpath(output) == os.path.realpath(args.file):
        raise CheckpointError(f"--output {output}: is the file to read; choose another name")
    contents = read_contents(args.file)
    weights = dict(contents.weights)
    if args.config_file:
        network = network_of(args.config_file, num_classes=classes_of(weights))
        if isinstance(contents.weights, ImageWeights):
            weights = inflated(weights, network.state)
        fit, report = compare(weights, network, source=str(args.file))
        print("\n".join(clean(line, longest=600) for line in report.table().splitlines()))
        if fit.verdict in ("no", "in part"):
            raise CheckpointError(f"{args.file}: does not fit {args.config_file} ({fit.detail})")
        told = with_settings(fit, contents.project, network)
        if told != fit:  # a file of ours does not say where it came from: this is the last time to tell
            print(f"Only the shapes fit {args.config_file}: {told.detail}")
    elif isinstance(contents.weights, ImageWeights):
        raise CheckpointError(
            f"{args.file}: a network for images ({ImageWeights.title}) is inflated to the shapes of a network for "
            "clips; say which one with --config-file, e.g. config_files/slow_r50_8x8_imagenet.yaml"
        )
    foreign = [name for name in weights if not name.startswith(("backbone.", "roi_heads."))]
    ours = {name: tensor.clone() for name, tensor in weights.items() if name not in set(foreign)}
    if not ours:
        raise CheckpointError(f"{args.file}: holds no weights that could be converted; see inspect")
    _write(output, ours)
    print(contents.text())
    if foreign:
        names = ", ".join(map(clean, foreign[:5]))
        print(f"{len(foreign)} tensors have no place in our networks and were left out: {names}")
    print(f"{args.output}: {len(ours)} tensors")


def _write(path: pathlib.Path, weights: dict[str, Tensor]) -> None:
    import torch

    make_folder(path.parent)
    with atomic_write(path) as file:
        torch.save({"model": weights}, file)


def _inspect(args: argparse.Namespace) -> None:
    from alphaction.checkpoint.contents import read_contents
    from alphaction.engine.inspection.report import config_files, fit_table

    contents = read_contents(args.file)
    print(contents.text())
    print(fit_table(contents, config_files()))


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE") and "list" in sys.argv[1:2]:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `list | head` ends it without a word
    main()
