"""The borders of the package: who may import whom, where `cfg` may be named, what a file may not hold."""

from __future__ import annotations

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "alphaction"
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]

# Started with `python -m`: scripts like those beside the package, which may import everything and are imported by none.
SCRIPT = "__main__.py"

# A package may import from those named here, and from itself.
ALLOWED = {
    "errors": set(),
    "utils": {"errors"},
    "config": {"errors", "utils"},
    "structures": {"errors", "utils"},
    "formats": {"errors", "utils", "structures"},
    "layers": {"errors", "utils", "structures"},
    "modeling": {"errors", "utils", "structures", "layers"},
    "dataset": {"errors", "utils", "structures", "formats"},
    "evaluation": {"errors", "utils", "structures", "formats"},
    "solver": {"errors", "utils"},
    "checkpoint": {"errors", "utils"},
    "synthetic": {"errors", "utils"},
    "weights": {"errors", "utils"},
    "preparation": {"errors", "utils", "config", "structures", "formats", "dataset", "evaluation"},
    "engine": {
        "errors",
        "utils",
        "config",
        "structures",
        "formats",
        "modeling",
        "dataset",
        "evaluation",
        "solver",
        "checkpoint",
    },  # fmt: skip
    "prediction": {
        "errors",
        "utils",
        "config",
        "structures",
        "formats",
        "modeling",
        "dataset",
        "evaluation",
        "checkpoint",
        "engine",
        "preparation",
    },  # fmt: skip
    "export": {
        "errors",
        "utils",
        "config",
        "structures",
        "formats",
        "modeling",
        "dataset",
        "evaluation",
        "checkpoint",
        "engine",
        "layers",
        "prediction",
        "synthetic",
    },  # fmt: skip
}


def _tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_run_one_way(path):
    parts = path.relative_to(PACKAGE).parts
    here = parts[0].removesuffix(".py")
    if here == "__init__" or path.name == SCRIPT:
        return
    for name in _imports(_tree(path)):
        if name.startswith("alphaction."):
            there = name.split(".")[1]
            if there != "__version__":
                assert not name.endswith(".__main__") and ".__main__." not in name, "scripts are not imported"
                build_reads_config = path.name == "build.py" and there == "config"
                assert there == here or there in ALLOWED[here] or build_reads_config, f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_cfg_is_read_in_build_files_only(path):
    parts = path.relative_to(PACKAGE).parts
    if parts[0] == "config" or path.name == "build.py":
        return
    names = {node.id for node in ast.walk(_tree(path)) if isinstance(node, ast.Name)}
    arguments = {node.arg for node in ast.walk(_tree(path)) if isinstance(node, ast.arg)}
    assert "cfg" not in names | arguments


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_file_is_short_and_quiet(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    calls = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    if path.name not in ("script.py", SCRIPT):  # the first speaks to stderr for the scripts
        assert "print" not in {call.func.id for call in calls}
    if path.name != "device.py":
        constants = {node.value for node in ast.walk(_tree(path)) if isinstance(node, ast.Constant)}
        assert "cuda" not in constants - ({"cuda"} if '.type == "cuda"' in text else set())
