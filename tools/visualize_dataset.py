"""Draws samples of a data set: python tools/visualize_dataset.py --dataset-name data/my/dataset.yaml:train"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout that is not installed

from alphaction.preparation.look.script import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
