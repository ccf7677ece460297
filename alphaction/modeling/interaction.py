"""Interaction Aggregation (paper, section 3): a person's feature is refined by what is around the person.

Three kinds of interaction block attend to three kinds of context: P to the persons of the clip, O to its objects, M to
the persons of the seconds before and after (the memory). They are aggregated one after the other (serial), one after
the other with a learned mixture of all earlier outputs as input (dense serial), or side by side (parallel).

Shapes: N clips, R persons over all clips, C channels of a pooled feature, D inner channels, E output channels,
L slots of a context, S seconds of memory, Q persons per second.

Three properties that the released weights rely on: empty slots take part in the attention; they are zero vectors, for
persons after the reduction to D channels, for objects and memory before it (which makes them the reduction's bias); the
layer norm has no weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alphaction.modeling.attention import BlockOptions, Choose, ClipRows, Context, InteractionBlock, Pointwise
from alphaction.structures import MemoryWindow, RoiFeatures

KINDS = ("P", "O", "M")


@dataclass(frozen=True)
class ContextLimits:
    """How many slots each context has.

    Attributes:
        persons, objects: per clip.
        per_second: Q, persons of a second of memory.
        seconds_before, seconds_after: the memory's length; S = before + 1 + after.
        random_in_test: where there are more than fit, a random choice of them in testing, too (in training always),
            instead of the first ones.
    """

    persons: int
    objects: int
    per_second: int
    seconds_before: int
    seconds_after: int
    random_in_test: bool = False

    @property
    def seconds(self) -> int:
        return self.seconds_before + 1 + self.seconds_after


class Surroundings:
    """The contexts of a batch."""

    def __init__(self, fixed: dict[str, Context], *, rows: ClipRows, max_persons: int, choose: Choose) -> None:
        """Args: `fixed` are the contexts that no block changes: "O" and "M"."""
        self.fixed = fixed
        self.rows = rows
        self.max_persons = max_persons
        self.choose = choose

    def of(self, kind: str, persons: Tensor) -> Context:
        """`persons` [R, D] is what a P block attends to."""
        if kind != "P":
            return self.fixed[kind]
        rows, kept = self.rows.at_most(self.max_persons, self.choose)
        return _timeless(_select(persons, kept), rows, slots=self.max_persons)


def _timeless(x: Tensor, rows: ClipRows, *, slots: int, empty_row: Tensor | None = None) -> Context:
    """A context of one moment: x [R, D]."""
    moments = (~rows.are_filled).to(torch.int64)
    return Context.of([rows.to_clips(x)], moments, places=torch.tensor([slots]), empty_row=empty_row)


def _select(x: Tensor, rows: Tensor | None) -> Tensor:
    return x if rows is None else x.index_select(0, rows.to(x.device, non_blocking=True))


class InteractionStructure(nn.Module):
    """What the three structures share: reduction to D channels, contexts, blocks.

    Args:
        layers: the kinds of the blocks, layer by layer (serial: one block per layer).
        dim_in: C.
        dim_out: E, of the last layer's blocks.
        limits: slots per context.
        options: of the blocks.
        temporal_position: M blocks know which second a slot belongs to.

    Raises:
        ValueError: no block, an unknown kind, or more columns in a layer than in the one before.
    """

    person_dim_reduce: Pointwise
    # Each where there are blocks of its kind.
    person_key_dim_reduce: Pointwise
    object_dim_reduce: Pointwise
    mem_dim_reduce: Pointwise

    def __init__(
        self,
        layers: Sequence[Sequence[str]],
        *,
        dim_in: int,
        dim_out: int,
        limits: ContextLimits,
        options: BlockOptions,
        temporal_position: bool,
    ) -> None:
        super().__init__()
        _check_layers(layers)
        self.layers = tuple(map(tuple, layers))
        self.dim_out = dim_out
        self.limits = limits
        kinds = {kind for layer in self.layers for kind in layer}
        self.needs_persons = "P" in kinds
        self.needs_objects = "O" in kinds
        self.needs_memory = "M" in kinds
        self.temporal_position = temporal_position
        self._num_memory_blocks = sum(layer.count("M") for layer in self.layers)
        for name in ["person_dim_reduce", *(name for kind, name in _REDUCTIONS.items() if kind in kinds)]:
            self.add_module(name, Pointwise(dim_in, options.dim_inner, bias=options.bias, init_std=options.init_std))
        self.block_names: list[list[str]] = []
        used = dict.fromkeys(KINDS, 0)
        for layer in self.layers:
            self.block_names.append([])
            for kind in layer:
                used[kind] += 1
                name = f"{kind}_block_{used[kind]}"
                self.block_names[-1].append(name)
                self.add_module(
                    name,
                    InteractionBlock(
                        dim_out if len(self.block_names) == len(self.layers) else options.dim_inner,
                        options=options,
                        seconds=limits.seconds if kind == "M" and temporal_position else None,
                    ),
                )
        if self.needs_persons and not self.reads_pooled_persons:
            # Weight files hold it, nothing reads it, so nothing must train it.
            self.person_key_dim_reduce.requires_grad_(False)
        self.add_mixtures(options.dim_inner)

    def add_mixtures(self, dim_inner: int) -> None:
        """Adds the weights, if any, with which block outputs are mixed: the last ones in weight files."""

    @property
    def reads_pooled_persons(self) -> bool:
        """Whether a P block attends to the persons as they were pooled, through `person_key_dim_reduce`."""
        return True

    def forward(self, features: RoiFeatures, memory: MemoryWindow | None = None) -> Tensor:
        """Refined person features.

        Args:
            features: pooled persons and, for O blocks, objects.
            memory: the persons of the seconds around each clip; those of the clip's own second are added here. None:
                nobody in any other second.

        Returns:
            [R, E].
        """
        rows = ClipRows(features.person_counts)
        persons = features.person.flatten(1)
        query = self.person_dim_reduce(persons)
        fixed = {}
        if self.needs_memory:
            fixed["M"] = self._memory(features, memory)
        if self.needs_objects:
            fixed["O"] = self._objects(features)
        around = Surroundings(fixed, rows=rows, max_persons=self.limits.persons, choose=self.choose)
        key = self.person_key_dim_reduce(persons) if self.needs_persons else query
        return self.aggregate(query, key, around)

    def aggregate(self, query: Tensor, key: Tensor, around: Surroundings) -> Tensor:
        """Runs the blocks.

        Args:
            query: the persons that are refined, [R, D].
            key: the persons as the first P block sees them, [R, D].
            around: the contexts.
        """
        raise NotImplementedError

    def memory_rows(self, features: RoiFeatures, memory: MemoryWindow | None) -> tuple[list[Tensor], Tensor]:
        """The memory's rows [N, L_i, C], and the clip's own persons in its middle; all without gradient.

        Returns:
            Both, and the second of each row, int64 [N, L] on the CPU, S = no row.
        """
        clips, seconds, slots = len(features.person_counts), self.limits.seconds, self.limits.per_second
        rows, kept = ClipRows(features.person_counts).at_most(slots, self.choose)
        own = rows.to_clips(_select(features.person.detach().flatten(1), kept))
        middle = torch.where(rows.are_filled, self.limits.seconds_before, seconds)
        if memory is None:
            return [own], middle
        span, expected = memory.span, (clips, seconds, slots, own.shape[2])
        got = (len(memory.rows), span.moments, span.persons, memory.rows.shape[2])
        if got != expected:
            raise ValueError(f"memory: got shape {got}, expected {expected} (clips, seconds, slots, C)")
        return [memory.rows.detach().to(own.dtype), own], torch.cat([memory.moments, middle], dim=1)

    def _memory(self, features: RoiFeatures, memory: MemoryWindow | None) -> Context:
        parts, moments = self.memory_rows(features, memory)
        places = torch.full((self.limits.seconds,), self.limits.per_second)
        if not self.temporal_position:
            moments, places = (moments == len(places)).to(torch.int64), places.sum(dim=0, keepdim=True)
        reduce = self.mem_dim_reduce
        persons = max(features.person_counts, default=0)
        if _pays_to_stay_wide(reduce, slots=moments.shape[1], persons=persons, blocks=self._num_memory_blocks):
            # Once for all blocks, not in each of their matrix products.
            parts = [part.to(_arithmetic(part)) for part in parts]
            return Context.of(parts, moments, places=places, empty_row=reduce.bias, reduce=reduce)
        return Context.of([reduce(part) for part in parts], moments, places=places, empty_row=reduce.bias)

    def choose(self, count: int, slots: int) -> Tensor:
        """Which of `count` rows fill the slots: a random subset in training, the first ones in testing."""
        if self.training or self.limits.random_in_test:
            return torch.randperm(count)[:slots]
        return torch.arange(slots)

    def block(self, layer: int, column: int) -> InteractionBlock:
        return getattr(self, self.block_names[layer][column])

    def _objects(self, features: RoiFeatures) -> Context:
        if features.object is None or features.object_counts is None:
            raise ValueError("interaction: got no object features, expected them (the structure has an O block)")
        rows, kept = ClipRows(features.object_counts).at_most(self.limits.objects, self.choose)
        objects = self.object_dim_reduce(_select(features.object.flatten(1), kept))
        return _timeless(objects, rows, slots=self.limits.objects, empty_row=self.object_dim_reduce.bias)


def _arithmetic(x: Tensor) -> torch.dtype:
    """The type that matrix products of x are made in."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _pays_to_stay_wide(reduce: Pointwise, *, slots: int, persons: int, blocks: int) -> bool:
    """Whether M blocks better look at the memory's rows of C channels than at rows reduced to D.

    The reduction of all rows goes away; instead persons go through its matrix, twice in each block, and their products
    with the rows are wider. Counted are the multiplications for a clip.
    """
    narrow, wide = reduce.weight.shape[:2]
    kept_wide = 2 * blocks * persons * (wide * narrow + slots * wide)
    return kept_wide < slots * wide * narrow + 2 * blocks * persons * slots * narrow


# Order of the released weight files.
_REDUCTIONS = {"M": "mem_dim_reduce", "P": "person_key_dim_reduce", "O": "object_dim_reduce"}


def _check_layers(layers: Sequence[Sequence[str]]) -> None:
    if not layers or not all(layers):
        raise ValueError("interaction blocks: got an empty list, expected at least one of 'P', 'O', 'M'")
    for layer in layers:
        for kind in layer:
            if kind not in KINDS:
                raise ValueError(f"interaction blocks: got {kind!r}, expected 'P', 'O' or 'M'")
    for above, below in zip(layers, layers[1:], strict=False):
        if len(below) > len(above):
            raise ValueError(
                f"interaction blocks: got a layer of {len(below)} columns after one of {len(above)}, "
                "expected at most as many (each column continues the one above it)"
            )


class SerialInteraction(InteractionStructure):
    """One block after the other: each refines the output of the one before."""

    @property
    def reads_pooled_persons(self) -> bool:
        return self.layers[0] == ("P",)

    def aggregate(self, query: Tensor, key: Tensor, around: Surroundings) -> Tensor:
        outputs: list[Tensor] = []
        for i, (kind,) in enumerate(self.layers):
            query = self.block_input(query, outputs)
            # A P block in the first place attends to the persons as they came, later ones as they are refined by then.
            persons = key if i == 0 else query
            outputs.append(self.block(i, 0)(query, around.of(kind, persons), around.rows))
        return outputs[-1]

    def block_input(self, query: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """What the next block refines, [R, D], from the reduced persons and the outputs of the blocks so far."""
        return outputs[-1] if outputs else query


class DenseSerialInteraction(SerialInteraction):
    """Serial, but each block refines a mixture of all earlier outputs, learned per channel (paper, equation 5)."""

    def add_mixtures(self, dim_inner: int) -> None:
        self.dense_params = nn.ParameterDict()
        for i in range(2, len(self.layers)):
            # A soft-max of these begins with a weight of nearly 1 on the last output.
            weights = torch.full((i, dim_inner, 1, 1, 1), -5 * math.log(10))
            weights[-1] = 0
            self.dense_params[str(i)] = nn.Parameter(weights)

    def block_input(self, query: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        if len(outputs) < 2:
            return super().block_input(query, outputs)
        weights = self.dense_params[str(len(outputs))].flatten(1).softmax(dim=0)  # [blocks, D]
        return torch.einsum("brd,bd->rd", torch.stack(list(outputs)), weights)


class ParallelInteraction(InteractionStructure):
    """Columns side by side, layer by layer; the last layer's outputs are summed."""

    def aggregate(self, query: Tensor, key: Tensor, around: Surroundings) -> Tensor:
        columns = [query] * len(self.layers[0])
        for i, layer in enumerate(self.layers):
            refined = []
            for j, kind in enumerate(layer):
                refined.append(self.block(i, j)(columns[j], around.of(kind, key), around.rows))
                if kind == "P" and i + 1 < len(self.layers):
                    key = refined[-1]  # whatever its column, for every later P block
            columns = refined
        return torch.stack(columns).sum(dim=0)


STRUCTURES = {"serial": SerialInteraction, "dense": DenseSerialInteraction, "parallel": ParallelInteraction}
