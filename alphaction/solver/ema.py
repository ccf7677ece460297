"""A running mean of the weights, which often tests better than the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class AveragedWeights:
    """Exponential moving average: mean = decay * mean + (1 - decay) * weights at each update.

    The statistics of batch norms are averaged, too. The first update takes the weights as they are.

    Args:
        model: is looked at and never changed.
        decay: share of the old mean that an update keeps, in [0, 1).
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay: got {decay}, expected a share in [0, 1)")
        self._source = model
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self._averaged.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """A model of its own with the mean; before the first update with the weights as they are now."""
        if not self._averaged.n_averaged:
            self._averaged.module.load_state_dict(self._source.state_dict())
        return self._averaged.module

    @torch.no_grad()
    def update(self) -> None:
        """After each step of the optimizer."""
        self._averaged.update_parameters(self._source)

    def state_dict(self) -> dict[str, Tensor]:
        """The model's tensors by their names with `module.` in front, and `n_averaged`, the number of updates."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over a copy of what `state_dict` gave."""
        self._averaged.load_state_dict(dict(state))
