"""Compares a weight file with the networks of configuration files."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from alphaction.checkpoint.contents import FileContents, clean
from alphaction.checkpoint.matching import (
    BACKBONE_PREFIX,
    PREDICTOR_PREFIX,
    LoadReport,
    depth_difference,
    plan_load,
)
from alphaction.checkpoint.zoo import ImageWeights, inflated
from alphaction.config.shipped import FOLDER, shipped_folder
from alphaction.engine.inspection.build import Network, network_of
from alphaction.errors import ConfigError

_DEFAULT_CLASSES = 80
_BEST = ("fits", "loads", "all but classes", "start", "shapes only", "in part", "no")


@dataclass(frozen=True)
class Fit:
    """How far a file fits a network.

    Attributes:
        verdict: "fits"; "loads" (the network's tensors are a part of the file's); "all but classes" (another number of
            them); "start" (the whole backbone: a starting point with --transfer --no-head); "shapes only" (it
            loads, but was trained with other settings, and the results are worse); "in part"; "no".
        detail: why, or what to do; may be empty.
    """

    verdict: str
    detail: str = ""


def compare(weights: Mapping[str, Tensor], network: Network, *, source: str) -> tuple[Fit, LoadReport]:
    """What loading the weights into the network would do."""
    if isinstance(weights, ImageWeights):
        weights = inflated(weights, network.state)
    report = plan_load(network.state, weights, source=source)
    total = sum(name.startswith(BACKBONE_PREFIX) for name in [*report.loaded, *report.missing, *_misfits(report)])
    loaded = sum(name.startswith(BACKBONE_PREFIX) for name in report.loaded)
    misfits = _misfits(report)
    depth = depth_difference(network.state, weights)
    if not loaded:
        return Fit("no", _first_shapes(report) or "none of the backbone's tensors is in the file"), report
    if depth:
        return Fit("no", depth), report
    if loaded < total:
        missing = f"backbone: {loaded} of {total} tensors"
        return Fit("in part", missing + (f"; {_first_shapes(report)}" if misfits else "")), report
    if not misfits and not report.missing:
        if report.unexpected:
            return Fit("loads", f"{len(report.unexpected)} tensors of the file are not used"), report
        return Fit("fits"), report
    if misfits and not report.missing and all(name.startswith(PREDICTOR_PREFIX) for name in misfits):
        _, theirs, ours = report.shape_skipped[0]
        return Fit("all but classes", f"{theirs[0]} classes in the file, {ours[0]} here"), report
    return Fit("start", "whole backbone, another head: --transfer --no-head"), report


def with_settings(fit: Fit, project: str, network: Network) -> Fit:
    """The fit, with a look at what no tensor shows.

    Args:
        project: the format that the weights had (`FileContents.project`).
    """
    if fit.verdict in ("in part", "no"):
        return fit
    unlike = network.unlike(project, fit.verdict in ("fits", "loads"))
    return Fit("shapes only", f"trained with other values of {', '.join(unlike)}") if unlike else fit


def config_files(folder: str | os.PathLike[str] | None = None) -> list[pathlib.Path]:
    """The configuration files of a folder; by default those of `config_files` here, or those that are shipped."""
    here = pathlib.Path(FOLDER)
    place = pathlib.Path(folder) if folder is not None else here if here.is_dir() else shipped_folder()
    return sorted(place.glob("*.yaml"))


def fit_table(contents: FileContents, config_files: Sequence[pathlib.Path]) -> str:
    """One line per configuration file, those that fit best first."""
    rows = []
    for path in config_files:
        try:
            network = network_of(path, num_classes=classes_of(contents.weights))
            fit, _ = compare(contents.weights, network, source=str(contents.path))
            fit = with_settings(fit, contents.project, network)
        except ConfigError as error:
            fit = Fit("no", f"cannot be built: {str(error).splitlines()[0]}")
        rows.append((_BEST.index(fit.verdict), path.name, fit))
    width = max((len(name) for _, name, _ in rows), default=0)
    lines = [
        f"  {name:<{width}}  {fit.verdict:<15}  {clean(fit.detail, longest=200)}".rstrip()
        for _, name, fit in sorted(rows, key=lambda row: row[:2])
    ]
    return "\n".join(["Configurations:", *lines]) if lines else "Configurations: no file to compare with"


def load_report(
    contents: FileContents, config_file: str | os.PathLike[str], opts: Sequence[str] = ()
) -> tuple[Fit, str]:
    """The fit with one configuration, and as text what loading would do."""
    network = network_of(config_file, opts, num_classes=classes_of(contents.weights))
    fit, report = compare(contents.weights, network, source=clean(contents.path))
    fit = with_settings(fit, contents.project, network)
    lines = [clean(line, longest=600) for line in report.table().splitlines()]
    detail = f" ({clean(fit.detail, longest=200)})" if fit.detail else ""
    return fit, "\n".join([*lines, f"{clean(config_file)}, {network.body}: {fit.verdict}{detail}"])


def classes_of(weights: Mapping[str, Tensor]) -> int:
    """Rows of the file's last layer; AVA's number if it has none."""
    for name, tensor in weights.items():
        if tensor.ndim == 2 and len(tensor) and (name == "pred_w" or name.endswith("predictor.cls_score.weight")):
            return len(tensor)
    return _DEFAULT_CLASSES


def _misfits(report: LoadReport) -> list[str]:
    return [name for name, _, _ in report.shape_skipped]


def _first_shapes(report: LoadReport) -> str:
    if not report.shape_skipped:
        return ""
    name, theirs, ours = report.shape_skipped[0]
    return f"{len(report.shape_skipped)} shapes differ, first {name}: {list(theirs)} in the file, {list(ours)} here"
