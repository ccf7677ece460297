"""Stores the frame times of a data set's videos beside it: python tools/index_videos.py data/my/dataset.yaml"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout that is not installed

from alphaction.preparation.index_videos import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
