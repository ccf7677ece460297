"""Package metadata. Reads the version and the requirements as text: nothing has to be installed beforehand."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """The version as `alphaction/__init__.py` states it, without importing the package."""
    text = (ROOT / "alphaction" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError('alphaction/__init__.py: no line `__version__ = "..."`')
    return match.group(1)


def read_requirements() -> list[str]:
    """The lines of requirements.txt without comments and empty lines."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("#", 1)[0].strip() for line in lines if line.split("#", 1)[0].strip()]


class BuildWithConfigFiles(build_py):
    """Puts a copy of config_files/ into the package of a wheel: there is no checkout beside it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "alphaction" / "config_files"
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted((ROOT / "config_files").glob("*.yaml")):
                shutil.copyfile(path, target / path.name)


setup(
    name="alphaction",
    version=read_version(),
    description="Spatio-temporal action detection: who does what, where and when in a video",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    cmdclass={"build_py": BuildWithConfigFiles},
    packages=find_packages(include=["alphaction", "alphaction.*"]),
    py_modules=["train_net", "test_net", "predict"],
    entry_points={
        "console_scripts": [
            "alphaction-train = train_net:main",
            "alphaction-test = test_net:main",
            "alphaction-predict = predict:main",
        ]
    },
    python_requires=">=3.10",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)],
    install_requires=read_requirements(),
    extras_require={
        "test": ["pytest>=8", "hypothesis>=6.80", "tensorboard>=2.18", "ruff>=0.6", "mypy>=1.8", "setuptools>=70.1"],
        "export": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"],  # tools/export.py --format onnx
        "benchmark": ["pytorchvideo>=0.1.5"],  # the peer of benchmarks/model.py
    },
)
