"""Commands, keys and file names in the pages, and a parser run that stops where the work would begin."""

from __future__ import annotations

import argparse
import pathlib
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from torch.distributed.run import get_args_parser

from alphaction.config import get_cfg, load_config
from alphaction.config.merge import leaves

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "demo" / "README.md"])
LAUNCHER = re.compile(r"^(torchrun|python -m torch\.distributed\.(?:launch|run)) ")
SECTIONS = "MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST|DISTRIBUTED|QUIRKS"
KEY = re.compile(rf"\b((?:{SECTIONS})(?:\.[A-Z0-9_]+)+)(\*?)")
# Modules of others that the pages start.
NOT_OURS = ("pytest", "json.tool", "venv", "pip", "build", "http.server")


class Block(NamedTuple):
    """A ```bash block of a page.

    needs: what stands in `<!-- needs: ... -->` above it, "" for a block that runs anywhere.
    """

    needs: str
    lines: list[str]


class Parsed(BaseException):
    """The flags were accepted; the work does not begin."""


def name_of(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: pathlib.Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    pattern = r"(?:<!-- needs: ([^>]*?) -->\n\n?)?(?m:^) *```bash\n(.*?)```"
    return [Block(needs or "", _lines(body)) for needs, body in re.findall(pattern, text, re.DOTALL)]


def commands(text: str) -> list[str]:
    """Every command line of the page that starts Python, in blocks and in the text."""
    found = []
    for body in re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL):
        found += _lines(body)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    parts = [part.strip() for line in found for part in re.split(r" && | \| ", line)]
    return list(dict.fromkeys(part for part in parts if re.match(r"(python|torchrun) \S", part)))


def _lines(body: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", body)
    lines = [re.sub(r"(^|\s)#.*$|\s>\s?\S+.*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line]


def words_of(command: str) -> list[str]:
    """What Python is started with: the script or `-m module`, then its arguments. Launchers are taken off."""
    words = shlex.split(command.replace("[", " ").replace("]", " ") if "[-" in command else command)
    words = ["1" if re.fullmatch("[A-Z]", word) else word for word in words if word != "..."]
    if LAUNCHER.match(command):
        words = words[1:] if words[0] == "torchrun" else words[3:]
        told = get_args_parser().parse_args([word.replace("=N", "=1") for word in words])
        return [told.training_script, *told.training_script_args]
    return words[1:]


def check_parses(command: str, *, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script exists and takes these flags; the keys and values at the end fit the configuration."""
    words = words_of(command)
    is_module = words[0] == "-m"
    if words[0] == "-c" or (is_module and words[1] in NOT_OURS):
        return
    name, arguments = (words[1], words[2:]) if is_module else (words[0], words[1:])
    script = next((place / name for place in (ROOT, folder) if (place / name).is_file()), None)
    assert is_module or script is not None, f"{command}: there is no {name}"
    if not arguments:
        return
    for function in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, function, _stopping(getattr(argparse.ArgumentParser, function)))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(sys, "path", [str(script.parent) if script else str(ROOT), *sys.path])
    try:
        run_module(name) if is_module else runpy.run_path(str(script), run_name="__main__")
    except Parsed:
        pass
    except SystemExit as end:
        assert not end.code, f"{command}: the flags are not accepted"
    for key, value in zip(arguments, arguments[1:], strict=False):
        if KEY.fullmatch(key):
            load_config("", [key, value])


def run_module(name: str) -> None:
    """`python -m name`. A `__main__` that an earlier test has imported would be warned of, so it is set aside."""
    before = sys.modules.pop(f"{name}.__main__", None)
    try:
        runpy.run_module(name, run_name="__main__")
    finally:
        if before is not None:
            sys.modules[f"{name}.__main__"] = before


def _stopping(parse):
    def parse_and_stop(parser, *args, **options):
        parse(parser, *args, **options)
        raise Parsed

    return parse_and_stop


def unknown_keys(text: str) -> Iterator[str]:
    """Keys that the configuration does not have; `SECTION.BEGIN*` stands for all that begin so."""
    known = {key for key, _ in leaves(get_cfg())}
    known |= {key.rsplit(".", i)[0] for key in known for i in range(1, key.count(".") + 1)}
    for key, star in KEY.findall(text):
        if not (key in known or (star and any(name.startswith(key) for name in known))):
            yield key


def missing_files(text: str) -> Iterator[str]:
    """Names of this repository's files in backticks that no file has; a name may leave out the folders in front."""
    paths = ["/" + name_of(path) for ending in ("py", "md", "sh", "yaml") for path in ROOT.rglob(f"*.{ending}")]
    for name in re.findall(r"`([A-Za-z0-9_./-]+\.(?:py|md|sh))`|`(config_files/[\w.-]+\.yaml)`", text):
        name = "".join(name).removeprefix("../")
        if not any(path.endswith("/" + name) for path in paths):
            yield name


def broken_links(page: pathlib.Path) -> Iterator[str]:
    """Relative links whose file or heading is not there."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            yield target


def _anchors(page: pathlib.Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
