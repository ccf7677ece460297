"""The three file formats: how a network is written, and how the file is read and computed again.

The facts (`facts`) travel in each file as JSON texts, one per name, where the format keeps such things.
"""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphaction.errors import ConfigError, UserError
from alphaction.export.network import OUTPUTS, OpenNetwork

#: Name of the JSON text in files of PyTorch.
FACTS_FILE = "alphaction.json"
#: Which sides of an input may differ from call to call, and what they are called.
DYNAMIC: Mapping[str, Mapping[int, str]] = {
    "slow": {0: "clips", 3: "height", 4: "width"},
    "fast": {0: "clips", 3: "height", 4: "width"},
    "sizes": {0: "clips"},
    "boxes": {0: "persons"},
    "objects": {0: "objects"},
    "memory": {0: "clips"},
}
_OPSET = 20

Compute = Callable[[Sequence[Tensor]], list[Tensor]]


class Format(ABC):
    """A file format.

    Attributes:
        name: as `--format` takes it.
        suffix: of its files.
        packages: Python packages that it needs besides PyTorch.
    """

    name: str
    suffix: str
    packages: tuple[str, ...] = ()

    def check_installed(self) -> None:
        """
        Raises:
            UserError: a package is missing.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"--format {self.name}: needs {', '.join(missing)}, which this Python does not have. Install what is "
                f"missing: pip install {' '.join(missing)}"
            )

    @abstractmethod
    def write(
        self,
        network: OpenNetwork,
        path: Path,
        *,
        example: Sequence[Tensor],
        facts: Mapping[str, object],
        any_size: bool,
    ) -> None:
        """Writes the file.

        Args:
            example: an input; clips and boxes in different numbers, each 2 or more.
            any_size: height and width may differ from call to call; else they are those of the example.

        Raises:
            ConfigError: the network has a part that the format does not know.
        """

    @abstractmethod
    def read(self, path: Path) -> tuple[Compute, dict[str, object]]:
        """What computes the file's network on the processor, and the facts in the file."""


class TorchScript(Format):
    """A recorded graph, for `torch.jit.load` in Python and C++ (which needs torchvision's operators loaded)."""

    name, suffix = "torchscript", ".pt"

    def write(
        self,
        network: OpenNetwork,
        path: Path,
        *,
        example: Sequence[Tensor],
        facts: Mapping[str, object],
        any_size: bool,
    ) -> None:
        with _quiet(), torch.no_grad():
            # Recorded shapes stay symbols in a trace: other numbers of boxes and other sizes go through as well.
            traced = torch.jit.trace(network, tuple(example), check_trace=False)
            torch.jit.save(torch.jit.freeze(traced.eval()), str(path), _extra_files={FACTS_FILE: json.dumps(facts)})

    def read(self, path: Path) -> tuple[Compute, dict[str, object]]:
        extra = {FACTS_FILE: ""}
        with _quiet():
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
        return _of_module(module), json.loads(extra[FACTS_FILE])


class TorchExport(Format):
    """PyTorch's own graph, for `torch.export.load` and what compiles it."""

    name, suffix = "torch.export", ".pt2"

    def write(
        self,
        network: OpenNetwork,
        path: Path,
        *,
        example: Sequence[Tensor],
        facts: Mapping[str, object],
        any_size: bool,
    ) -> None:
        with _quiet():
            program = graph_of(network, example, any_size=any_size)
            torch.export.save(program, str(path), extra_files={FACTS_FILE: json.dumps(facts)})

    def read(self, path: Path) -> tuple[Compute, dict[str, object]]:
        extra = {FACTS_FILE: ""}
        with _quiet():
            program = torch.export.load(str(path), extra_files=extra)
        return _of_module(program.module()), json.loads(extra[FACTS_FILE])


class Onnx(Format):
    """ONNX, for onnxruntime, TensorRT, OpenVINO and others."""

    name, suffix = "onnx", ".onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def write(
        self,
        network: OpenNetwork,
        path: Path,
        *,
        example: Sequence[Tensor],
        facts: Mapping[str, object],
        any_size: bool,
    ) -> None:
        if network.pooler.kind == "pooling3d":
            raise ConfigError(
                "MODEL.ROI_ACTION_HEAD.POOLER_TYPE: got 'pooling3d', which ONNX's MaxRoiPool does not compute alike; "
                "export to torchscript or torch.export, or train with 'align3d'"
            )
        with _quiet():
            program = torch.onnx.export(
                graph_of(network, example, any_size=any_size),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=list(network.input_names),
                output_names=list(OUTPUTS),
                dynamic_shapes=(tuple(_dynamic(name, any_size=any_size) for name in network.input_names),),
            )
            if program is None:
                raise ValueError("torch.onnx.export: got None, expected a program")
            program.model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
            program.save(str(path))

    def read(self, path: Path) -> tuple[Compute, dict[str, object]]:
        import onnxruntime  # only where it is needed: most users have no use for it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # 3: errors
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

        def compute(inputs: Sequence[Tensor]) -> list[Tensor]:
            results = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
            return [torch.from_numpy(result) for result in results]

        texts = session.get_modelmeta().custom_metadata_map
        return compute, {key: json.loads(text) for key, text in texts.items()}


FORMATS: Mapping[str, Format] = {kind.name: kind for kind in (Onnx(), TorchScript(), TorchExport())}


def graph_of(network: OpenNetwork, example: Sequence[Tensor], *, any_size: bool) -> torch.export.ExportedProgram:
    """The network's pass as PyTorch's graph; the numbers of clips and boxes are not in it."""
    dynamic = tuple(
        dict.fromkeys(_dynamic(name, any_size=any_size), torch.export.Dim.DYNAMIC) for name in network.input_names
    )
    with torch.no_grad():
        return torch.export.export(network, tuple(example), dynamic_shapes=(dynamic,), strict=False)


def _dynamic(name: str, *, any_size: bool) -> dict[int, str]:
    return {axis: side for axis, side in DYNAMIC[name].items() if any_size or side not in ("height", "width")}


def _of_module(module: Any) -> Compute:
    def compute(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.inference_mode():
            return list(module(*inputs))

    return compute


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own remarks, which are not for users."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
