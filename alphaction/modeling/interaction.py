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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alphaction.structures import RoiFeatures

KINDS = ("P", "O", "M")

Choose = Callable[[int, int], Tensor]  # (rows, slots) -> int64 [slots], the rows that fill the slots


@dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a structure have in common.

    Attributes:
        dim_inner: D.
        bias: projections have a bias.
        init_std: standard deviation of fresh projections.
        zero_init: the output projection begins at 0, so that a fresh block changes nothing.
        layer_norm: normalise what was gathered before its ReLU.
        dropout: probability, on the output projection.
    """

    dim_inner: int = 512
    bias: bool = True
    init_std: float = 0.01
    zero_init: bool = True
    layer_norm: bool = False
    dropout: float = 0.0


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


class Pointwise(nn.Conv3d):
    """A linear layer whose weight has the shape of a 1 x 1 x 1 convolution, as in the weight files."""

    def __init__(self, dim_in: int, dim_out: int, *, bias: bool, init_std: float) -> None:
        super().__init__(dim_in, dim_out, 1, bias=bias)
        nn.init.normal_(self.weight, std=init_std) if init_std else nn.init.zeros_(self.weight)
        if bias:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim_in] to [..., dim_out]."""
        return F.linear(x, self.weight.flatten(1), self.bias)


class ClipRows:
    """Moves persons or objects between [R, D], all clips one after the other, and [N, slots, D], padded with zeros."""

    def __init__(self, counts: Sequence[int]) -> None:
        """Args: `counts` are the rows of each clip."""
        self.counts = list(counts)

    def to_clips(self, x: Tensor, *, slots: int | None = None, choose: Choose | None = None) -> Tensor:
        """[R, D] to [N, slots, D].

        Args:
            slots: slots per clip; None: as many as the fullest clip needs.
            choose: (rows, slots) to the rows that stay, where a clip has more than fit.
        """
        slots = self._widest if slots is None else slots
        source, target, first = [], [], 0
        for clip, count in enumerate(self.counts):
            kept = choose(count, slots) if count > slots else torch.arange(count)
            source.append(first + kept)
            target.append(clip * slots + torch.arange(len(kept)))
            first += count
        padded = x.new_zeros(len(self.counts) * slots, x.shape[1])
        padded = padded.index_copy(0, torch.cat(target).to(x.device), x[torch.cat(source).to(x.device)])
        return padded.unflatten(0, (len(self.counts), slots))

    def from_clips(self, x: Tensor) -> Tensor:
        """[N, rows of the fullest clip, D] to [R, D], the inverse of `to_clips` without limit."""
        places = [clip * self._widest + torch.arange(count) for clip, count in enumerate(self.counts)]
        return x.flatten(0, 1)[torch.cat(places).to(x.device)]

    @property
    def _widest(self) -> int:
        return max(self.counts)


class InteractionBlock(nn.Module):
    """Attention of each person over the context of its clip, added to the person's feature."""

    def __init__(self, dim_out: int, *, options: BlockOptions, seconds: int | None = None) -> None:
        """Args: `seconds` S gives keys and values of each second a learned offset (temporal position)."""
        super().__init__()
        dim, bias, std = options.dim_inner, options.bias, options.init_std
        self.layer_norm = options.layer_norm
        self.temporal_position_k = self.temporal_position_v = None
        if seconds is not None:
            self.temporal_position_k = nn.Parameter(torch.zeros(seconds, 1, dim, 1, 1, 1))
            self.temporal_position_v = nn.Parameter(torch.zeros(seconds, 1, dim, 1, 1, 1))
        self.query = Pointwise(dim, dim, bias=bias, init_std=std)
        self.key = Pointwise(dim, dim, bias=bias, init_std=std)
        self.value = Pointwise(dim, dim, bias=bias, init_std=std)
        self.out = Pointwise(dim, dim_out, bias=bias, init_std=0.0 if options.zero_init else std)
        self.shortcut = None if dim == dim_out else Pointwise(dim, dim_out, bias=bias, init_std=std)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, persons: Tensor, context: Tensor, rows: ClipRows) -> Tensor:
        """Persons [R, D] and their clips' contexts [N, L, D] to [R, E]; keys and values are computed once per clip."""
        query = rows.to_clips(self.query(persons))
        key = _with_position(self.key(context), self.temporal_position_k)
        value = _with_position(self.value(context), self.temporal_position_v)
        attention = (query @ key.transpose(1, 2)) * query.shape[2] ** -0.5  # [N, persons, L]
        gathered = rows.from_clips(attention.softmax(dim=2) @ value)
        if self.layer_norm:
            gathered = F.layer_norm(gathered, gathered.shape[1:])
        change = self.dropout(self.out(F.relu(gathered)))
        return change + (persons if self.shortcut is None else self.shortcut(persons))


def _with_position(context: Tensor, position: Tensor | None) -> Tensor:
    """Context [N, S * Q, D] plus one vector per second, [S, 1, D, 1, 1, 1]."""
    if position is None:
        return context
    return (context.unflatten(1, (len(position), -1)) + position.flatten(1).unsqueeze(1)).flatten(1, 2)


class Surroundings:
    """The contexts of a batch, reduced to D channels."""

    def __init__(self, fixed: dict[str, Tensor], *, rows: ClipRows, max_persons: int, choose: Choose) -> None:
        """Args: `fixed` are the contexts that no block changes: "O" and "M", [N, L, D]."""
        self.fixed = fixed
        self.rows = rows
        self.max_persons = max_persons
        self.choose = choose

    def of(self, kind: str, persons: Tensor) -> Tensor:
        """[N, L, D]; `persons` [R, D] is what a P block attends to."""
        if kind == "P":
            return self.rows.to_clips(persons, slots=self.max_persons, choose=self.choose)
        return self.fixed[kind]


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

    def forward(self, features: RoiFeatures, memory: Tensor | None = None) -> Tensor:
        """Refined person features.

        Args:
            features: pooled persons and, for O blocks, objects.
            memory: person features [N, S, Q, C] of the seconds around each clip, zeros where there is nobody; the
                clip's own second is filled in here. None: nobody in any other second.

        Returns:
            [R, E].
        """
        rows = ClipRows(features.person_counts)
        persons = features.person.flatten(1)
        query = self.person_dim_reduce(persons)
        fixed = {}
        if self.needs_memory:
            fixed["M"] = self.mem_dim_reduce(self.complete_memory(features, memory).flatten(1, 2))
        if self.needs_objects:
            fixed["O"] = self.object_dim_reduce(self._objects(features))
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

    def complete_memory(self, features: RoiFeatures, memory: Tensor | None) -> Tensor:
        """Memory [N, S, Q, C] with the clip's own persons, without gradient, in the middle."""
        own = features.person.detach().flatten(1)
        own = ClipRows(features.person_counts).to_clips(own, slots=self.limits.per_second, choose=self.choose)
        clips, slots, dim = own.shape
        shape = (clips, self.limits.seconds, slots, dim)
        if memory is None:
            memory = own.new_zeros(shape)
        elif memory.shape != shape:
            raise ValueError(f"memory: got shape {tuple(memory.shape)}, expected {shape} (clips, seconds, slots, C)")
        else:
            memory = memory.detach().to(own.dtype, copy=True)
        memory[:, self.limits.seconds_before] = own
        return memory

    def choose(self, count: int, slots: int) -> Tensor:
        """Which of `count` rows fill the slots: a random subset in training, the first ones in testing."""
        if self.training or self.limits.random_in_test:
            return torch.randperm(count)[:slots]
        return torch.arange(slots)

    def block(self, layer: int, column: int) -> InteractionBlock:
        return getattr(self, self.block_names[layer][column])

    def _objects(self, features: RoiFeatures) -> Tensor:
        if features.object is None or features.object_counts is None:
            raise ValueError("interaction: got no object features, expected them (the structure has an O block)")
        rows = ClipRows(features.object_counts)
        return rows.to_clips(features.object.flatten(1), slots=self.limits.objects, choose=self.choose)


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
