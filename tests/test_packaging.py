"""The wheel holds every module, imports without a checkout beside it, and brings the configuration files along."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from alphaction.config import load_config
from alphaction.config.shipped import find_config, shipped_folder

ROOT = pathlib.Path(__file__).resolve().parent.parent

IMPORT_ALL = """
import importlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root))
names = [".".join(path.relative_to(root).with_suffix("").parts) for path in sorted((root / "alphaction").rglob("*.py"))]
names = [name.removesuffix(".__init__") for name in names] + ["train_net", "test_net", "predict"]
for name in names:
    if not name.endswith("__main__"):
        module = importlib.import_module(name)
        assert pathlib.Path(module.__file__).is_relative_to(root), module.__file__
from alphaction.config import load_config
print(len(names), load_config("config_files/quickstart.yaml").DATASETS.TRAIN)
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A wheel of this tree, unpacked."""
    pytest.importorskip("setuptools", minversion="70.1", reason="builds a wheel")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "README.md", "train_net.py", "test_net.py"):
        shutil.copy(ROOT / name, source)
    shutil.copy(ROOT / "predict.py", source)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("alphaction", "config_files"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, folder], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_wheel_holds_what_the_tree_holds(unpacked):
    ours = {path.relative_to(ROOT) for path in (ROOT / "alphaction").rglob("*.py")}
    theirs = {path.relative_to(unpacked) for path in (unpacked / "alphaction").rglob("*.py")}
    assert theirs == ours
    shipped = {path.name for path in (unpacked / "alphaction" / "config_files").iterdir()}
    assert shipped == {path.name for path in (ROOT / "config_files").glob("*.yaml")}
    (commands,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "alphaction-train = train_net:main" in commands.read_text()


def test_every_module_imports_from_the_wheel(unpacked, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, unpacked], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == "('quickstart_train',)"


def test_shipped_configurations_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("config_files/tiny.yaml") == shipped_folder() / "tiny.yaml"
    assert load_config("config_files/tiny.yaml").OUTPUT_DIR
    assert find_config("config_files/no_such.yaml") == pathlib.Path("config_files/no_such.yaml")
    assert find_config("other/tiny.yaml") == pathlib.Path("other/tiny.yaml")
    (tmp_path / "config_files").mkdir()
    own = tmp_path / "config_files" / "tiny.yaml"
    own.write_text("OUTPUT_DIR: mine\n")
    assert load_config("config_files/tiny.yaml").OUTPUT_DIR == "mine"
