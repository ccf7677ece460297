"""docs/TROUBLESHOOTING.md: a row for each message that the package can print, and no row for one that it cannot.

A row quotes constant words of the message; `...` stands for what changes from run to run. To mend a failure, add the
words that the test shows to a row of the page (a new one, or a family's), or take the stale ones out.
"""

from __future__ import annotations

import ast
import pathlib
import re
from functools import cache

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "TROUBLESHOOTING.md"
FILES = sorted((ROOT / "alphaction").rglob("*.py"))
CHANGES = "\N{HORIZONTAL ELLIPSIS}"  # instead of what a message fills in
WARNINGS = {"warning", "error", "critical"}
BASES = {"UserError", "Interrupted"}
FEW_WORDS = 2  # a message with no more constant words is made elsewhere, from parts that have rows of their own
FAMILIES = {"configuration:", "Say --", "'categories': ", "--videos ...: ", "events:", "...: generator"}


def _text(node: ast.expr) -> str:
    """The constant words of a message, with marks for the rest."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%[-+0-9.]*[sdrfg]", CHANGES, node.value) if isinstance(node.value, str) else CHANGES
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else CHANGES for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _text(node.left)
    return CHANGES


@cache
def _trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def _error_classes(trees: dict[str, ast.Module]) -> set[str]:
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = set(BASES)
    while True:
        more = {c.name for c in classes if any(ast.unparse(base).split(".")[-1] in found for base in c.bases)}
        if more <= found:
            return found
        found |= more


def messages() -> dict[str, str]:
    """{constant words of a message: file and line}."""
    trees = _trees()
    errors = _error_classes(trees)
    found = {}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            called = ast.unparse(node.func)
            warns = called.split(".")[0] == "logger" and called.split(".")[-1] in WARNINGS
            # `error`: a function of reading a file that is given the class to raise
            if warns or called.split(".")[-1] in errors or called == "error":
                text = _text(node.args[0])
                if len(re.findall(r"[a-zA-Z]{2,}", text)) > FEW_WORDS:
                    found[text] = f"{name}:{node.lineno}"
    return found


def quotes() -> list[str]:
    """What the first cells of the page's rows quote."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [quote for row in rows for quote in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def _pattern(quote: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part.strip()) for part in quote.replace("\\|", "|").split("...")), re.DOTALL)


def test_every_message_has_a_row():
    patterns = [_pattern(quote) for quote in quotes()]
    missing = {text: place for text, place in messages().items() if not any(p.search(text) for p in patterns)}
    shown = "\n".join(f"{place}  {text}" for text, place in missing.items())
    assert not missing, f"{len(missing)} messages have no row in {PAGE.name}:\n{shown}"


def test_no_row_is_stale():
    nodes = [node for tree in _trees().values() for node in ast.walk(tree)]
    lines = [_text(node) for node in nodes if isinstance(node, (ast.JoinedStr, ast.BinOp, ast.Constant))]
    lines += (ROOT / "activate_uv_env.sh").read_text(encoding="utf-8").splitlines()
    stale = [quote for quote in quotes() if not any(map(_pattern(quote).search, lines))]
    assert not stale, f"no message has these words any more: {stale}"


def test_rows_quote_enough_to_be_found():
    short = [quote for quote in quotes() if len(re.findall(r"[A-Za-z0-9_]+", quote)) < FEW_WORDS]
    assert set(short) <= FAMILIES, f"quote more words of these, or they hide new messages: {short}"


@pytest.mark.parametrize("heading", ["Installation", "Configuration", "Data", "Videos", "Weights", "Training"])
def test_the_page_has_the_group(heading):
    assert f"\n## {heading}" in PAGE.read_text(encoding="utf-8")


def test_rows_have_cause_and_cure():
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            assert len(cells) == 3 and all(len(cell) > 3 for cell in cells), line
