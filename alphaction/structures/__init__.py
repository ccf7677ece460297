"""Data types that travel between the packages. Imports torch and numpy only."""

from alphaction.structures.annotations import Annotations, ClassList, ClipKey, PackedBoxes
from alphaction.structures.batch import ClipBatch, ClipSample, DetectorOutput, RoiFeatures
from alphaction.structures.boxes import Boxes
from alphaction.structures.memory import FeatureMemory
from alphaction.structures.memory_window import MemorySpan, MemoryWindow
from alphaction.structures.predictions import Predictions

__all__ = [
    "Annotations",
    "Boxes",
    "ClassList",
    "ClipBatch",
    "ClipKey",
    "ClipSample",
    "DetectorOutput",
    "FeatureMemory",
    "MemorySpan",
    "MemoryWindow",
    "PackedBoxes",
    "Predictions",
    "RoiFeatures",
]
