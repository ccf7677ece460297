"""The fine-tuning guide's name for check_dataset.py: python tools/validate_dataset.py --dataset-name NAME"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout that is not installed

import alphaction.utils.script_start  # noqa: E402, F401 (before PyTorch)
from alphaction.engine.script import run_script  # noqa: E402
from alphaction.preparation.check_script import main  # noqa: E402

if __name__ == "__main__":
    run_script(lambda: sys.exit(main()))
