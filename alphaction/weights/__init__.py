"""Public weights: which there are, and how to get them. `python -m alphaction.weights` is the command."""

from alphaction.weights.download import Download, fetch
from alphaction.weights.table import TABLE, PublicWeights, find

__all__ = ["TABLE", "Download", "PublicWeights", "fetch", "find"]
