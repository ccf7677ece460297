"""Which tensor of a file fills which parameter of the model.

A model's name takes the file's entry of the same name; failing that, the entry whose whole name is the longest ending
of it that begins after a dot (`conv1.weight` fills `backbone.conv1.weight`, never `backbone.myconv1.weight`). One entry
may fill several parameters. A prefix `module.` (DistributedDataParallel) in front of all names of a side is ignored.
Caffe2 files are matched by `caffe2.caffe2_name` instead, image networks are brought into the model's shapes
(`zoo.inflate`).
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from alphaction.checkpoint import caffe2
from alphaction.checkpoint.class_rows import SWITCH, ClassNames, RowReport, carry_rows
from alphaction.checkpoint.zoo import ImageWeights, inflated
from alphaction.errors import CheckpointError
from alphaction.utils.logging import alike_in_all

HEAD_PREFIX = "roi_heads."
PREDICTOR_PREFIX = "roi_heads.action.predictor."
BACKBONE_PREFIX = "backbone."
# Beside `roi_heads.`, so that `--no-head` keeps it: persons look alike whatever the classes are.
PERSON_HEAD_PREFIX = "person_head."
_WRAPPER_PREFIX = "module."
_COUNTER = "num_batches_tracked"
_BLOCK = re.compile(r"(?:module\.)?(?:backbone\.)?(?P<stage>(?:slow\.|fast\.)?res_nl\d+)\.res_(?P<block>\d+)\.")
_SHOWN = 5

logger = alike_in_all(logging.getLogger(__name__))


@dataclass(frozen=True)
class LoadReport:
    """What loading a file does, or did. Names are without `module.`.

    Attributes:
        source: the file.
        loaded: model name -> name in the file.
        missing: model names that keep their initial values.
        unexpected: names in the file that the model has no place for.
        left_out: names in the file that `--no-head` drops.
        shape_skipped: (model name, shape in the file, shape in the model) of tensors that do not fit.
        rows: of the last layer, where they were carried over by class name.
    """

    source: str
    loaded: Mapping[str, str]
    missing: Sequence[str]
    unexpected: Sequence[str]
    left_out: Sequence[str]
    shape_skipped: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]
    rows: RowReport | None = None

    @property
    def has_head(self) -> bool:
        """Whether something of the action head was filled."""
        return any(name.startswith(HEAD_PREFIX) for name in self.loaded)

    @property
    def by_ending(self) -> list[str]:
        """Model names that were filled by an entry of another, shorter name."""
        return [name for name, entry in self.loaded.items() if name != entry]

    @property
    def lacks_person_head(self) -> bool:
        """Whether the model has a person head and the file has none."""
        return any(name.startswith(PERSON_HEAD_PREFIX) for name in self.missing)

    @property
    def missing_elsewhere(self) -> list[str]:
        """What is missing besides a person head."""
        return [name for name in self.missing if not name.startswith(PERSON_HEAD_PREFIX)]

    def table(self) -> str:
        """The report as text: one line per kind, with counts and the first names."""
        total = len(self.loaded) + len(self.missing) + len(self.shape_skipped)
        backbone = sum(name.startswith(BACKBONE_PREFIX) for name in self.loaded)
        backbone_total = backbone + sum(
            name.startswith(BACKBONE_PREFIX) for name in [*self.missing, *(row[0] for row in self.shape_skipped)]
        )
        lines = [
            f"Weights from {self.source}:",
            f"  loaded               {len(self.loaded)} of the model's {total} tensors"
            + (f" (backbone {backbone} of {backbone_total})" if backbone_total else ""),
        ]
        renamed = self.by_ending
        rows = [
            ("found by ending", [f"{name} <- {self.loaded[name]}" for name in renamed]),
            ("kept as initialised", list(self.missing)),
            ("unused in the file", list(self.unexpected)),
            ("left out (--no-head)", list(self.left_out)),
            ("shape does not fit", [_shape_text(row) for row in self.shape_skipped]),
        ]
        if self.rows is not None:
            rows += [
                ("classes carried over", list(self.rows.carried)),
                ("classes initialised", list(self.rows.fresh)),
                ("classes not used", list(self.rows.unused)),
            ]
        lines += [f"  {title:<20} {len(names)}: {_some(names)}" for title, names in rows if names]
        return "\n".join(lines)


def match_names(model_names: Iterable[str], file_names: Iterable[str]) -> dict[str, str | None]:
    """For each model name the name in the file that fills it, or None. `module.` must be gone from both sides."""
    available = set(file_names)

    def find(name: str) -> str | None:
        ending = name
        while ending not in available:
            _, dot, ending = ending.partition(".")
            if not dot:
                return None
        return ending

    return {name: find(name) for name in model_names}


def plan_load(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, source: str, no_head: bool = False
) -> LoadReport:
    """Compares a model's state with a file's; changes nothing.

    Args:
        expected: the model's state dict.
        weights: the file's.
        source: the file's name for messages.
        no_head: drop the file's entries that begin with `roi_heads.`.
    """
    expected, weights = without_wrapper(expected), without_wrapper(weights)
    strangers: list[str] = []
    if isinstance(weights, ImageWeights):
        weights = inflated(weights, expected)
    if isinstance(weights, caffe2.Caffe2Weights):
        weights, strangers = caffe2.renamed(weights, expected)
    left_out = [name for name in weights if no_head and name.startswith(HEAD_PREFIX)]
    dropped = set(left_out)
    offered = {name: tensor for name, tensor in weights.items() if name not in dropped}
    matched = match_names(expected, offered)
    loaded, missing, misfits = {}, [], []
    for name, entry in matched.items():
        if entry is None:
            missing.append(name)
        elif offered[entry].shape != expected[name].shape:
            misfits.append((name, tuple(offered[entry].shape), tuple(expected[name].shape)))
        else:
            loaded[name] = entry
    used = set(matched.values())
    return LoadReport(
        source=source,
        loaded=loaded,
        # Counters of batch norms: files of frozen norms lack them, models with frozen norms have no use for them.
        missing=[name for name in missing if not name.endswith(_COUNTER)],
        unexpected=[name for name in offered if name not in used and not name.endswith(_COUNTER)] + strangers,
        left_out=left_out,
        shape_skipped=misfits,
    )


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    no_head: bool = False,
    advice: str = "",
    classes: ClassNames | None = None,
) -> LoadReport:
    """Copies a file's tensors into the model.

    Args:
        model: may be wrapped in DistributedDataParallel.
        weights: name -> tensor.
        source: the file's name for messages.
        no_head: leave everything below `roi_heads.` as initialised.
        advice: what to do about shapes that do not fit; by default the flag and key that help.
        classes: names of the classes, if both sides have them.

    Raises:
        CheckpointError: shapes do not fit, nothing of the model's backbone is in the file, or it is of another depth;
            the model is unchanged.
    """
    model = unwrap(model)
    expected = model.state_dict()
    own_names = dict(zip(without_wrapper(expected), expected, strict=True))
    weights = without_wrapper(weights)
    if isinstance(weights, ImageWeights):
        weights = inflated(weights, without_wrapper(expected))
    rows = None
    if classes is not None and classes.by_name and classes.differ and not no_head:
        weights, rows = _with_rows_by_name(weights, without_wrapper(expected), classes=classes, source=source)
    report = plan_load(expected, weights, source=source, no_head=no_head)
    if report.shape_skipped:
        raise CheckpointError(_misfit_message(report, advice, classes))
    _check_backbone(report, weights)
    depth = depth_difference(expected, weights)
    if depth:
        raise CheckpointError(
            f"{source}: it is made for a network of another depth ({depth}). "
            f"{advice or 'Use the configuration that the file was made with (MODEL.BACKBONE.CONV_BODY).'}"
        )
    if isinstance(weights, caffe2.Caffe2Weights):
        weights, _ = caffe2.renamed(weights, own_names)
    model.load_state_dict({own_names[name]: weights[entry] for name, entry in report.loaded.items()}, strict=False)
    return dataclasses.replace(report, rows=rows)


def depth_difference(model_names: Iterable[str], file_names: Iterable[str]) -> str:
    """The first residual stage that both sides have, but with another number of blocks; "" if there is none.

    All shapes of ResNet-50 are those of ResNet-101, which only has more blocks: shapes alone do not tell them apart.
    """
    theirs, ours = _blocks_per_stage(file_names), _blocks_per_stage(model_names)
    for stage, count in ours.items():
        if stage in theirs and theirs[stage] != count:
            return f"{stage}: {theirs[stage]} blocks in the file, {count} in the model"
    return ""


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, DataParallel or torch.compile."""
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        else:
            inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def without_wrapper(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state without `module.` in front, if all names have it."""
    if isinstance(state, (caffe2.Caffe2Weights, ImageWeights)):
        return state
    if state and all(name.startswith(_WRAPPER_PREFIX) for name in state):
        return {name.removeprefix(_WRAPPER_PREFIX): tensor for name, tensor in state.items()}
    return dict(state)


def _with_rows_by_name(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, classes: ClassNames, source: str
) -> tuple[dict[str, Tensor], RowReport]:
    last_layer = {name: entry for name, entry in match_names(expected, weights).items() if entry is not None}
    last_layer = {name: entry for name, entry in last_layer.items() if name.startswith(PREDICTOR_PREFIX)}
    rearranged, rows = carry_rows(last_layer, weights, expected, classes=classes, source=source)
    return {**weights, **rearranged}, rows


def _blocks_per_stage(names: Iterable[str]) -> dict[str, int]:
    blocks: dict[str, set[str]] = {}
    for name in names:
        found = _BLOCK.match(name)
        if found:
            blocks.setdefault(found["stage"], set()).add(found["block"])
    return {stage: len(numbers) for stage, numbers in blocks.items()}


def _check_backbone(report: LoadReport, weights: Mapping[str, Tensor]) -> None:
    names = [*report.loaded, *report.missing]
    wanted = BACKBONE_PREFIX if any(name.startswith(BACKBONE_PREFIX) for name in names) else ""
    if any(name.startswith(wanted) for name in report.loaded):
        return
    if not weights:
        raise CheckpointError(f"{report.source}: holds no weights at all")
    if isinstance(weights, caffe2.Caffe2Weights) and report.loaded:
        logger.warning(
            "%s: only the last layer was filled. The file's other names are not those of a SlowFast or Slow network of "
            "PySlowFast, so the backbone keeps random values.",
            report.source,
        )
        return
    raise CheckpointError(
        f"{report.source}: none of its {len(weights)} tensors fits the {'backbone' if wanted else 'model'}. The file "
        f"has {_some(list(weights))}; the model expects {_some([name for name in names if name.startswith(wanted)])}. "
        "Is it made for another network (MODEL.BACKBONE.CONV_BODY) or by another program?"
    )


def _misfit_message(report: LoadReport, advice: str, classes: ClassNames | None) -> str:
    rows = report.shape_skipped
    if all(name.startswith(PREDICTOR_PREFIX) for name, _, _ in rows):
        _, theirs, ours = rows[0]
        if not advice:
            advice = (
                f"Set MODEL.ROI_ACTION_HEAD.NUM_CLASSES to {theirs[0]}, or train with --no-head to start the head "
                "afresh."
            )
            if classes is not None and not classes.by_name:
                advice += (
                    f" Both sides name their classes: with {SWITCH} True and --transfer the rows of those of the same "
                    f"name ({len(classes.pairs())} of them) are carried over."
                )
        return (
            f"{report.source}: its last layer is made for {theirs[0]} classes, this model for {ours[0]} "
            f"(MODEL.ROI_ACTION_HEAD.NUM_CLASSES). {advice}"
        )
    head_only = all(name.startswith(HEAD_PREFIX) for name, _, _ in rows)
    if not advice:
        advice = (
            "Train with --no-head to start the head afresh, or use the configuration that the file was made with."
            if head_only
            else "Use the configuration that the file was made with (MODEL.*)."
        )
    return (
        f"{report.source}: {len(rows)} of its tensors have another shape than the model's: "
        f"{_some([_shape_text(row) for row in rows])}. {advice}"
    )


def _shape_text(row: tuple[str, tuple[int, ...], tuple[int, ...]]) -> str:
    return f"{row[0]} ({list(row[1])} in the file, {list(row[2])} in the model)"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
