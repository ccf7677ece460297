"""What a memory shows around some clips: which moments, and the persons of each, without the empty places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def random_ones(count: int, places: int) -> Tensor:
    """Which of `count` persons fill the places, for `FeatureMemory.window(choose=)`; int64 [places]."""
    return torch.randperm(count)[:places]


@dataclass(frozen=True)
class MemorySpan:
    """The moments around a clip that its window shows.

    Attributes:
        before, after: how many moments; S = before + 1 + after.
        rate: slots from one moment to the next.
        persons: Q, places of a moment.
    """

    before: int
    after: int
    rate: int
    persons: int

    @property
    def moments(self) -> int:
        return self.before + 1 + self.after

    def slots(self, middle: int) -> range:
        """The S slots around the slot `middle`."""
        return range(middle - self.before * self.rate, middle + self.after * self.rate + 1, self.rate)


@dataclass(frozen=True)
class MemoryWindow:
    """The persons of S moments around each of N clips, of which each moment has room for Q.

    Places without a person are zero vectors, and are only counted. The clips' own moment in the middle has no person:
    the network adds those of this very pass.

    Attributes:
        rows: float32 [N, L, C]; L is what the fullest clip needs, clips with fewer persons end in zeros.
        moments: int64 [N, L] on the CPU: 0 .. S - 1, the moment of each row; S = no person.
        span: which moments.
    """

    rows: Tensor
    moments: Tensor
    span: MemorySpan

    @property
    def counts(self) -> Tensor:
        """Persons of each moment, int64 [N, S] on the CPU."""
        length = self.span.moments + 1
        flat = self.moments + length * torch.arange(len(self.moments))[:, None]
        return torch.bincount(flat.flatten(), minlength=length * len(self.moments)).view(-1, length)[:, :-1]
