"""AlphAction: spatio-temporal action detection (who does what, where and when in a video).

A rebuild of "Asynchronous Interaction Aggregation for Action Detection" (Tang et al., ECCV 2020,
arXiv 2004.07485): SlowFast backbone, ROI action head, configuration by a yacs tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphaction.prediction.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> object:
    """Loads `Predictor` when it is asked for: `import alphaction` alone loads no PyTorch."""
    if name == "Predictor":
        from alphaction.prediction.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
