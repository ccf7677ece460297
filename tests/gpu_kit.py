"""A GPU that is only pretended: tensors which say that they are on it, and hold their numbers in main memory.

Everything computes on the processor, so results can be compared with its own, but PyTorch and this package see
`device.type == "cuda"`: autocast casts as on a GPU, the forms of a GPU are chosen, and an operation on tensors of both
devices fails as it does there, as does `.numpy()`. The backward pass is run by hand, since PyTorch's engine would ask
the driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
#: Whether there is a GPU after all: it is used then, and nothing is pretended.
REAL = torch.cuda.is_available()
aten = torch.ops.aten
_CROSSING = {aten.copy_.default, aten._to_copy.default}
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
_JOINING = {aten.cat.default, aten.stack.default}
_READING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}

#: Operations so far for which the program would have waited until the GPU has done all it was asked to do.
waits: list[str] = []


class OnGpu(torch.Tensor):
    """A tensor on the pretended GPU; `there` are its numbers, a tensor in main memory."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> OnGpu:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            there.size(),
            strides=there.stride(),
            storage_offset=there.storage_offset(),
            dtype=there.dtype,
            device=GPU,
        )
        tensor.there = there
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def data_ptr(self) -> int:
        return self.there.data_ptr()

    def tolist(self) -> Any:
        return self.there.tolist()

    def backward(self, gradient: Tensor | None = None) -> None:
        run_backward(self.grad_fn, torch.ones_like(self) if gradient is None else gradient)

    def __format__(self, spec: str) -> str:
        return format(self.there, spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGpu:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, requires_grad=self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.there.__reduce_ex__(protocol)


@torch.no_grad()
def run_backward(root: Any, gradient: Tensor) -> None:
    """PyTorch's engine in short: each node is called when all gradients of its result have been added up."""
    waits, todo, seen = {}, [root], {root}
    while todo:
        for following, _ in todo.pop().next_functions:
            if following is None:
                continue
            waits[following] = waits.get(following, 0) + 1
            if following not in seen:
                seen.add(following)
                todo.append(following)
    arrived, ready = {root: {0: gradient}}, [root]
    while ready:
        node = ready.pop()
        given = arrived.pop(node, {})
        results: Any = (None,) * len(node.next_functions)
        if given:
            inputs = [given.get(i) for i in range(len(node._input_metadata))]
            results = node.apply(*inputs) if hasattr(node, "apply") else node(*inputs)
            results = results if isinstance(results, tuple) else (results,)
        for (following, place), result in zip(node.next_functions, results, strict=False):
            if following is None:
                continue
            if result is not None:
                result = _fitted(result, following._input_metadata[place])
                slots = arrived.setdefault(following, {})
                slots[place] = result if place not in slots else slots[place] + result
            waits[following] -= 1
            if not waits[following]:
                ready.append(following)


def _fitted(gradient: Tensor, meta: Any) -> Tensor:
    """As the engine does: in type and shape of what it is the gradient of; on the same device, or it is refused."""
    if gradient.device != meta.device:
        raise RuntimeError(f"gradient: got one on {gradient.device}, expected {meta.device}")
    return gradient.sum_to_size(tuple(meta.shape)).to(meta.dtype)


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """`func` on the numbers in main memory; what comes of it is where a GPU would have it."""
    if func._can_decompose():  # in inference mode such operations come here before their parts
        with _Pretending():
            return func.decompose(*args, **kwargs)
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    gpu = [x for x in given if isinstance(x, OnGpu)]
    target = kwargs.get("device")
    if gpu:
        _check(func, args, kwargs, given)
    on_gpu = bool(gpu) if target is None else torch.device(target).type == "cuda"
    back = {id(x.there): x for x in gpu}
    kwargs = {name: value for name, value in kwargs.items() if name not in ("device", "pin_memory")}
    if target is not None:
        kwargs["device"] = "cpu"
    if _waits(func, args, kwargs, on_gpu):
        waits.append(str(func))
    args, kwargs = tree_map(_there, args), tree_map(_there, kwargs)
    if func is aten.convolution_backward.default:
        # Of bfloat16 kernels that see more frames than the clip has PyTorch 2.15 makes rubbish on processors.
        grads = func(*(x.float() if isinstance(x, Tensor) else x for x in args), **kwargs)
        out = tuple(None if grad is None else grad.to(args[1].dtype) for grad in grads)
    else:
        out = func(*args, **kwargs)
    return tree_map(lambda x: _placed(x, back, on_gpu) if isinstance(x, Tensor) else x, out)


def _placed(x: Tensor, back: dict[int, OnGpu], on_gpu: bool) -> Tensor:
    """What an operation gave back; of one that changed its argument that argument."""
    if id(x) in back and on_gpu:
        return back[id(x)]
    if not on_gpu:
        return x
    with torch.inference_mode(x.is_inference()):  # a view of an ordinary tensor is one in inference mode, too
        return OnGpu(x)


def _waits(func: Any, args: Any, kwargs: Any, on_gpu: bool) -> bool:
    first = bool(args) and isinstance(args[0], OnGpu)
    if func is aten._to_copy.default:
        return on_gpu != first and not kwargs.get("non_blocking", False)
    if func is aten.copy_.default:
        at_once = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        return first != isinstance(args[1], OnGpu) and not at_once
    by_mask = func in _INDEXING and any(x is not None and x.dtype is torch.bool for x in args[1])
    return first and (func in _READING or by_mask)


def _there(x: Any) -> Any:
    return x.there if isinstance(x, OnGpu) else x


def _check(func: Any, args: Any, kwargs: Any, given: list[Tensor]) -> None:
    """Raises where a GPU's kernel would."""
    if func in _CROSSING:
        return
    if func in _INDEXING:
        if not isinstance(args[0], OnGpu):
            raise RuntimeError(f"{func}: indices on the GPU for a tensor in main memory")
        given = [x for x in tree_leaves((args[0], args[2:], kwargs)) if isinstance(x, Tensor)]
    for x in given:
        if not isinstance(x, OnGpu) and (x.ndim or func in _JOINING):
            raise RuntimeError(f"{func}: expected all tensors on the GPU, got {tuple(x.shape)} in main memory")


class _Pretending(TorchDispatchMode):
    """Sends to `computed` what has no tensor of the GPU among its arguments: what makes or moves one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class _Moment:
    """In place of CUDA's events and streams: everything is done at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


def can_pretend() -> bool:
    """Whether this PyTorch has what is needed: names that begin with an underscore."""
    if REAL:
        return True
    nodes = hasattr(torch.zeros(1, requires_grad=True).sum().grad_fn, "_input_metadata")
    names = ("_ensureCUDADeviceGuardSet", "_set_only_lift_cpu_tensors", "_current_graph_task_id")
    return nodes and all(hasattr(torch._C, name) for name in names) and hasattr(torch._ops.OpOverload, "_can_decompose")


@contextmanager
def pretended_gpu(monkeypatch: Any, *, major: int = 9) -> Iterator[torch.device]:
    """Within the block there is one GPU, of this compute capability."""
    if REAL:
        yield GPU
        return
    with monkeypatch.context() as patch:
        for name, value in {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda device: None,
            "get_device_name": lambda device=None: "pretended",
            "get_device_properties": lambda device=None: SimpleNamespace(major=major),
            "is_bf16_supported": lambda including_emulation=True: True,
            "Event": _Moment,
            "current_stream": _Moment,
            "synchronize": lambda device=None: None,
            "max_memory_allocated": lambda device=None: 2**20,
            "max_memory_reserved": lambda device=None: 2**21,
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: None,
            "manual_seed_all": lambda seed: None,
        }.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch._C, "_current_graph_task_id", lambda: 1)  # activation checkpointing asks for the pass
        patch.setattr(torch.backends.cudnn, "version", lambda: 90000)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.Tensor, "pin_memory", lambda self, device=None: self.clone())
        torch._C._ensureCUDADeviceGuardSet()  # where there is no driver: streams of the GPU are nothing
        overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(
            True
        )  # `parameter.data = ...` would lose the numbers
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) makes its tensor here, then moves it
        try:
            with torch.backends.cudnn.flags(enabled=False), _Pretending():
                yield GPU
        finally:
            torch._C._set_only_lift_cpu_tensors(False)
            torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
