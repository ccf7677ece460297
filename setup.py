"""Package metadata. Reads the version and the requirements as text: nothing has to be installed beforehand."""

import re
from pathlib import Path

from setuptools import find_packages, setup

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


setup(
    name="alphaction",
    version=read_version(),
    description="Spatio-temporal action detection: who does what, where and when in a video",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["alphaction", "alphaction.*"]),
    python_requires=">=3.10",
    install_requires=read_requirements(),
    extras_require={
        "test": ["pytest>=8", "hypothesis>=6.80", "tensorboard>=2.12", "ruff>=0.6", "mypy>=1.8"],
        "benchmark": ["pytorchvideo>=0.1.5"],  # the peer of benchmarks/model.py
    },
)
