"""A convolution and the batch norm after it as one convolution, where the batch norm is a constant.

weight' = weight * gamma / sqrt(variance + eps), bias' = beta + (bias - mean) * gamma / sqrt(variance + eps).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from alphaction.layers.frozen_bn import FrozenBatchNorm

T = TypeVar("T")


class ConstantNorm(Protocol):
    """What `is_constant` says of a batch norm: it has statistics, [C] each."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    eps: float


def is_constant(bn: nn.Module) -> TypeGuard[ConstantNorm]:
    """Whether the batch norm is the same linear function for every batch, with nothing to learn in this pass."""
    if isinstance(bn, FrozenBatchNorm):
        return True
    return (
        isinstance(bn, _BatchNorm) and not bn.training and bn.running_mean is not None and not torch.is_grad_enabled()
    )


def folded(conv: nn.Conv3d, bn: ConstantNorm | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the two in one; gradients reach the convolution's own."""
    if bn is None:
        return conv.weight, conv.bias
    scale = (bn.running_var + bn.eps).rsqrt()
    scale = scale if bn.weight is None else scale * bn.weight
    shift = -bn.running_mean * scale if conv.bias is None else (conv.bias - bn.running_mean) * scale
    return conv.weight * scale.reshape(-1, 1, 1, 1, 1), shift if bn.bias is None else shift + bn.bias


class FoldedCache(Generic[T]):
    """What inference makes of a convolution's folded weights, kept as long as nothing they come from has changed.

    A copy of the module that owns it (a running mean of the weights, a pickled model) begins with an empty one.
    """

    def __init__(self) -> None:
        # What it was made of (with the tensors, so that no other can come to lie at the same address), and the value:
        # one attribute, for threads that share a model.
        self._kept: tuple[tuple[Any, ...], list[Tensor], T] | None = None

    def get(
        self,
        conv: nn.Conv3d,
        bn: ConstantNorm | None,
        *,
        dtype: torch.dtype,
        form: object,
        make: Callable[[Tensor, Tensor | None], T],
    ) -> T:
        """`make(weight, bias)` of `folded`, which is computed in the weights' own precision, then cast to `dtype`.

        Weights changed through `tensor.data` are not noticed: nothing in PyTorch counts such changes. `clear` helps.

        Args:
            form: says what `make` makes: another form, another value.
        """
        sources = [tensor for tensor in (*_tensors(conv), *_tensors(bn)) if tensor is not None]
        if any(tensor.is_inference() for tensor in sources):  # nobody counts their changes
            return make(*_cast(folded(conv, bn), dtype))
        eps = None if bn is None else bn.eps
        stamp = (dtype, form, eps, *((t.data_ptr(), t._version, t.dtype, t.device) for t in sources))
        kept = self._kept
        if kept is not None and kept[0] == stamp:
            return kept[2]
        with torch.inference_mode(False), torch.no_grad():
            value = make(*_cast(folded(conv, bn), dtype))
        self._kept = (stamp, [tensor.detach() for tensor in sources], value)
        return value

    def clear(self) -> None:
        """Forgets everything."""
        self._kept = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FoldedCache[T]:
        return FoldedCache()

    def __reduce__(self) -> tuple[type[FoldedCache[T]], tuple[()]]:
        return FoldedCache, ()


def _tensors(module: nn.Conv3d | ConstantNorm | None) -> tuple[Tensor | None, ...]:
    if module is None:
        return ()
    return (module.weight, module.bias, getattr(module, "running_mean", None), getattr(module, "running_var", None))


def _cast(value: tuple[Tensor, Tensor | None], dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    weight, bias = value
    weight = weight.detach().to(dtype).contiguous(memory_format=torch.channels_last_3d)
    return weight, None if bias is None else bias.detach().to(dtype)
