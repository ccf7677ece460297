"""The running statistics of a model's trainable batch norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from alphaction.utils.distributed import Processes


class BatchStatistics:
    """Reads them, and puts them back where a forward pass should not have been.

    Args:
        model: nothing else of it is looked at.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._kept: list[Tensor] = []

    @property
    def are_synchronised(self) -> bool:
        """Whether the norms see the clips of all processes at once."""
        return any(isinstance(norm, nn.SyncBatchNorm) for norm in self._norms)

    def tensors(self) -> list[Tensor]:
        """The statistics themselves: what is written to them changes the model."""
        return [buffer for norm in self._norms for buffer in norm.buffers(recurse=False)]

    @torch.no_grad()
    def keep(self) -> None:
        """Notes the statistics as they are now."""
        self._kept = [tensor.clone() for tensor in self.tensors()]

    @torch.no_grad()
    def restore(self) -> None:
        """Back to what was noted last."""
        for tensor, kept in zip(self.tensors(), self._kept, strict=True):
            tensor.copy_(kept)


def share_statistics(model: nn.Module, processes: Processes) -> None:
    """Gives all processes process 0's statistics, so that each tests its share with the same network.

    In training each process goes on with its own: they take no part in it, and checkpoints hold process 0's.
    """
    processes.copy_from_main(BatchStatistics(model).tensors())
