"""From annotation files and videos to batches of clips."""

from alphaction.dataset.action_dataset import ActionDataset, ClipOptions
from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.build import build_datasets, build_loader, class_list, set_num_classes
from alphaction.dataset.report import DataReport

__all__ = [
    "ActionDataset",
    "ClipOptions",
    "DataReport",
    "build_datasets",
    "build_loader",
    "class_list",
    "read_annotations",
    "set_num_classes",
]
