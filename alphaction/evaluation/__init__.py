"""Frame mAP as AVA's official evaluation defines it; imports numpy, OpenCV and `structures`, never the model."""

from alphaction.evaluation.ava import (
    ImageIndex,
    read_detections,
    read_exclusions,
    read_ground_truth,
    result_rows,
)
from alphaction.evaluation.frame_map import PROTOCOLS, FrameMap, Protocol, frame_map
from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.evaluation.report import EvalResult

__all__ = [
    "PROTOCOLS",
    "Detections",
    "EvalResult",
    "FrameMap",
    "GroundTruth",
    "ImageIndex",
    "Protocol",
    "frame_map",
    "read_detections",
    "read_exclusions",
    "read_ground_truth",
    "result_rows",
]
