"""How the action classes are divided into groups that share a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Loss = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class ActionGroup:
    """A run of neighbouring classes with a common loss.

    Attributes:
        name: appears in the log as `loss_<name>` and `accuracy_<name>`.
        start: class index of the group's first class.
        size: number of classes.
        loss: "softmax", exactly one class of the group holds (AVA: the poses); "sigmoid", any number of them.
        weight: factor of the group's loss in the total.
    """

    name: str
    start: int
    size: int
    loss: Loss
    weight: float

    def __post_init__(self) -> None:
        if self.loss not in ("softmax", "sigmoid"):
            raise ValueError(f"group {self.name}: got loss {self.loss!r}, expected 'softmax' or 'sigmoid'")
        if self.start < 0 or self.size < 1:
            raise ValueError(f"group {self.name}: got start {self.start} and size {self.size}, expected >= 0 and >= 1")

    @property
    def columns(self) -> slice:
        """The group's columns of logits, labels and scores."""
        return slice(self.start, self.start + self.size)
