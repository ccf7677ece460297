"""Interaction in a form that other programs can compute: tensors only, whatever the number of clips and boxes.

The network itself moves persons into one row per clip, with numbers of persons that Python knows. Here every person
looks at the rows of all clips; those that it must not see get the weight 0. The weights and the order of the blocks are
the network's own.

Shapes: R persons and O objects over all clips, N clips, C channels of a pooled feature, D inner channels, E output
channels, S seconds of memory, Q persons per second, L rows of a context.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alphaction.modeling.attention import InteractionBlock
from alphaction.modeling.interaction import InteractionStructure
from alphaction.structures import RoiFeatures


@dataclass(frozen=True)
class OpenFeatures(RoiFeatures):
    """Pooled features with the clip of each row in place of numbers of rows, which are not used.

    Attributes:
        clips: int64 [R], in any order.
        object_clips: int64 [O]; None without objects.
    """

    clips: Tensor = field(kw_only=True)
    object_clips: Tensor | None = None


@dataclass(frozen=True)
class OpenContext:
    """What persons attend to.

    Attributes:
        rows: [L, D]; the last one stands for all empty slots.
        log_slots: [R, L], logarithm of how many slots a row stands for before each person: 0 for one that it sees,
            minus infinity for one that it does not see.
        moments: int64 [L], 0 .. S - 1; None: the context has no time.
    """

    rows: Tensor
    log_slots: Tensor
    moments: Tensor | None = None


class OpenSurroundings:
    """The contexts of a pass; stands in for `modeling.interaction.Surroundings`.

    Args:
        fixed: those that no block changes, "O" and "M".
        persons_seen: [R, R + 1], `log_slots` of the persons.
    """

    rows = None  # nothing is moved into rows per clip

    def __init__(self, fixed: dict[str, OpenContext], *, persons_seen: Tensor) -> None:
        self.fixed = fixed
        self.persons_seen = persons_seen

    def of(self, kind: str, persons: Tensor) -> OpenContext:
        """`persons` [R, D] is what a P block attends to."""
        if kind != "P":
            return self.fixed[kind]
        return OpenContext(torch.cat([persons, persons.new_zeros(1, persons.shape[1])]), self.persons_seen)


class OpenBlock(nn.Module):
    """An interaction block as the paper writes it; the layers are those of `block`."""

    def __init__(self, block: InteractionBlock) -> None:
        super().__init__()
        self.layer_norm = block.layer_norm
        self.query, self.key, self.value, self.out = block.query, block.key, block.value, block.out
        self.shortcut = block.shortcut
        self.temporal_position_k, self.temporal_position_v = block.temporal_position_k, block.temporal_position_v

    def forward(self, persons: Tensor, context: OpenContext, rows: None = None) -> Tensor:
        """Persons [R, D] to [R, E]."""
        query = self.query(persons) * persons.shape[1] ** -0.5
        keys = _placed(self.key(context.rows), self.temporal_position_k, context.moments)
        values = _placed(self.value(context.rows), self.temporal_position_v, context.moments)
        attention = (query @ keys.t() + context.log_slots).softmax(dim=1)
        gathered = attention @ values
        if self.layer_norm:
            gathered = F.layer_norm(gathered, (values.shape[1],))
        change = self.out(F.relu(gathered))
        return change + (persons if self.shortcut is None else self.shortcut(persons))


class OpenInteraction(nn.Module):
    """A structure of interaction blocks with its input as tensors; stands in for `InteractionStructure` in the head.

    Args:
        structure: changed by this: its blocks become `OpenBlock`. In evaluation mode.
    """

    def __init__(self, structure: InteractionStructure) -> None:
        super().__init__()
        for names in structure.block_names:
            for name in names:
                setattr(structure, name, OpenBlock(getattr(structure, name)))
        self.structure = structure

    def forward(self, features: OpenFeatures, memory: Tensor | None = None) -> Tensor:
        """Refined persons [R, E].

        Args:
            features: with objects, if there are O blocks.
            memory: [N, S, Q, C]; zero vectors are empty places.
        """
        structure, limits = self.structure, self.structure.limits
        persons, clips = features.person.flatten(1), features.clips
        query = structure.person_dim_reduce(persons)
        same = clips[:, None] == clips[None, :]
        fixed = {}
        if structure.needs_objects:
            fixed["O"] = self._objects(features)
        if memory is not None:
            fixed["M"] = self._memory(persons, clips, same, memory)
        around = OpenSurroundings(fixed, persons_seen=_log_slots(same, _rank(same), limits.persons))
        key = structure.person_key_dim_reduce(persons) if structure.needs_persons else query
        return structure.aggregate(query, key, around)  # type: ignore[arg-type]  # it stands in for `Surroundings`

    def _objects(self, features: OpenFeatures) -> OpenContext:
        assert features.object is not None and features.object_clips is not None
        reduce, objects, clips = self.structure.object_dim_reduce, features.object.flatten(1), features.object_clips
        rows = torch.cat([reduce(objects), _reduced_zeros(reduce, objects)])
        among, seen = clips[:, None] == clips[None, :], features.clips[:, None] == clips[None, :]
        return OpenContext(rows, _log_slots(seen, _rank(among), self.structure.limits.objects))

    def _memory(self, persons: Tensor, clips: Tensor, same: Tensor, memory: Tensor) -> OpenContext:
        """All places of the memory but those of the clip's own second, which has the clip's own persons."""
        structure, limits = self.structure, self.structure.limits
        reduce = structure.mem_dim_reduce
        middle, slots = limits.seconds_before, limits.per_second
        others = torch.cat([memory[:, :middle], memory[:, middle + 1 :]], dim=1)  # [N, S - 1, Q, C]
        rows = torch.cat([reduce(others.flatten(0, 2)), reduce(persons), _reduced_zeros(reduce, persons)])
        numbers = torch.arange(memory.shape[0], device=clips.device)
        of_clip = numbers[:, None].expand(-1, (limits.seconds - 1) * slots).flatten()
        not_seen = torch.zeros(1, dtype=rows.dtype, device=rows.device).log()
        log_others = torch.where(clips[:, None] == of_clip[None, :], torch.zeros_like(not_seen), not_seen)
        log_slots = torch.cat([log_others, _log_slots(same, _rank(same), slots)], dim=1)
        if not structure.temporal_position:
            return OpenContext(rows, log_slots)
        seconds = [second for second in range(limits.seconds) if second != middle for _ in range(slots)]
        moments = torch.tensor(seconds, device=clips.device)[None, :].expand(memory.shape[0], -1).flatten()
        own = torch.full_like(clips, middle)
        end = torch.full((1,), middle, dtype=torch.int64, device=clips.device)
        return OpenContext(rows, log_slots, torch.cat([moments, own, end]))


def _placed(rows: Tensor, offsets: Tensor | None, moments: Tensor | None) -> Tensor:
    """Keys or values [L, D] and what the block, if it knows moments, learned for them [S, 1, D, 1, 1, 1]."""
    if offsets is None:
        return rows
    assert moments is not None
    return rows + offsets.flatten(1).index_select(0, moments)


def _reduced_zeros(reduce: nn.Module, like: Tensor) -> Tensor:
    """What an empty slot holds, [1, D]."""
    return reduce(like.new_zeros(1, like.shape[1]))


def _rank(among: Tensor) -> Tensor:
    """How many rows of the same clip come before each row, int64 [L]; `among` [L, L]: which are of the same clip."""
    numbers = torch.arange(among.shape[0], device=among.device)
    return (among & (numbers[None, :] < numbers[:, None])).sum(dim=1)


def _log_slots(seen: Tensor, rank: Tensor, slots: int) -> Tensor:
    """`OpenContext.log_slots` where a clip has room for the first `slots` rows, [R, L + 1].

    Args:
        seen: bool [R, L], which rows are of the person's clip.
        rank: int64 [L].
    """
    shown = seen & (rank < slots)[None, :]
    empty = (slots - shown.sum(dim=1, keepdim=True)).float()
    return torch.cat([shown.float(), empty], dim=1).log()
