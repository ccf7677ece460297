"""Reading and writing checkpoints: no code in a file is ever run, and no file is ever half-written."""

from alphaction.checkpoint.checkpointer import Checkpointer
from alphaction.checkpoint.files import read_checkpoint
from alphaction.checkpoint.matching import LoadReport, load_weights
from alphaction.checkpoint.state import LoadedState

__all__ = ["Checkpointer", "LoadReport", "LoadedState", "load_weights", "read_checkpoint"]
