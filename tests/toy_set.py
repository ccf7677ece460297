"""As much of a test data set as an evaluation looks at."""

from dataclasses import dataclass, field

from alphaction.structures import Annotations


@dataclass
class ToySet:
    annotations: Annotations
    name: str = "toy"
    spec: dict = field(default_factory=lambda: {"eval_file_paths": {}})
    uses_detections: bool = False
    finds_persons: bool = False
