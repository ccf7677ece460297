"""docs/fidelity.md is complete, and what it names exists."""

import ast
import pathlib
import re

import goldens
import pytest

TESTS = pathlib.Path(__file__).resolve().parent
TEXT = (TESTS.parent / "docs" / "fidelity.md").read_text(encoding="utf-8")
GOLDENS, QUIRKS = TEXT.split("\n## Quirks\n")
ROWS = [line.strip("|").split(" | ") for line in QUIRKS.splitlines() if re.match(r"\| \d", line)]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))
KITS_OWN = {"fill.py", "parity.py"}  # helpers of the recordings, no recordings


def test_every_quirk_has_its_line_in_order():
    assert [int(row[0]) for row in ROWS] == list(range(1, 122))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_a_line_says_what_was_decided_and_shows_it(row):
    _, what, here, shown = row
    assert what and len(what) < 120
    assert re.match(r"(dropping |order |maths )?(kept|switch|fixed|changed|within|this version|no code of ours)", here)
    if here.startswith("switch"):
        assert re.match(r"switch `[A-Z_.]+`, default \S+: ", here)
    assert "::" in shown or here.startswith("no code of ours")


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_the_named_tests_exist(file):
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {name for named_in, name in NAMED if named_in == file} <= there


def test_no_name_is_written_in_a_way_that_is_not_checked():
    assert len(re.findall(r"::", TEXT)) == len(re.findall(r"`[\w/]+\.py::\w+`", TEXT))


def test_every_golden_has_its_line():
    patterns = re.findall(r"`([\w*]+(?:\.npz|\.json|\.pth|/))`", GOLDENS)
    folder = goldens.HERE / "golden"
    files = {path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith(("_", "."))}
    named = {path.name + "/" * path.is_dir() for pattern in patterns for path in folder.glob(pattern.strip("/"))}
    assert named == files - KITS_OWN


def test_the_goldens_are_below_their_limit():
    """issue 3: at most 5 MB."""
    files = [path for path in (goldens.HERE / "golden").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= 5_000_000


@pytest.mark.parametrize("shape", [(), 7, (3, 5)])
def test_the_quick_form_of_the_kits_numbers_gives_the_same_bits(shape):
    ours, kits = (bell("name", shape, 3, 0.7) for bell in (goldens.quick_bell, goldens.slow_bell))
    assert ours.dtype == kits.dtype and ours.shape == kits.shape and ours.tobytes() == kits.tobytes()
