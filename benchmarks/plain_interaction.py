"""Interaction aggregation written plainly, person by person: a part of `plain_model`.

Every person gets a copy of its clip's context, and keys and values are computed for each copy. Shapes: R persons over
all clips, C channels, L slots of a context, D inner channels, E output channels, S seconds of Q persons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode


class Counts(NamedTuple):
    """Persons and objects of each clip."""

    persons: list[int]
    objects: list[int]


class _AttentionBlock(nn.Module):
    """A person's attention over its own copy of the context, [R, L, D, 1, 1] as `nn.Conv3d` of 1 x 1 x 1."""

    def __init__(self, node: CfgNode, dim_out: int, *, seconds: int | None) -> None:
        super().__init__()
        dim, bias = node.DIM_INNER, not node.NO_BIAS
        self.layer_norm = node.LAYER_NORM
        self.seconds = seconds
        if seconds is not None:
            self.temporal_position_k = nn.Parameter(torch.zeros(seconds, 1, dim, 1, 1, 1))
            self.temporal_position_v = nn.Parameter(torch.zeros(seconds, 1, dim, 1, 1, 1))
        self.query, self.key, self.value = (nn.Conv3d(dim, dim, 1, bias=bias) for _ in range(3))
        self.out = nn.Conv3d(dim, dim_out, 1, bias=bias)
        self.shortcut = nn.Identity() if dim == dim_out else nn.Conv3d(dim, dim_out, 1, bias=bias)
        self.dropout = nn.Dropout(node.DROPOUT)

    def forward(self, persons: Tensor, context: Tensor) -> Tensor:
        """Persons [R, D, 1, 1, 1] and what each of them sees [R, D, L, 1, 1] to [R, E, 1, 1, 1]."""
        query = self.query(persons).flatten(2)  # [R, D, 1]
        key, value = self.key(context).flatten(2), self.value(context).flatten(2)  # [R, D, L]
        if self.seconds is not None:
            slots = key.shape[2] // self.seconds
            key = key + self._position(self.temporal_position_k, slots)
            value = value + self._position(self.temporal_position_v, slots)
        weights = torch.bmm(query.transpose(1, 2), key) / query.shape[1] ** 0.5  # [R, 1, L]
        gathered = torch.bmm(value, weights.softmax(dim=2).transpose(1, 2))[..., None, None]
        if self.layer_norm:
            gathered = F.layer_norm(gathered, gathered.shape[1:])
        return self.dropout(self.out(F.relu(gathered))) + self.shortcut(persons)

    @staticmethod
    def _position(position: Tensor, slots: int) -> Tensor:
        return position.flatten(1).t().repeat_interleave(slots, dim=1)  # [D, L]


class PlainInteraction(nn.Module):
    """Serial, dense serial or parallel interaction, person by person."""

    def __init__(self, cfg: CfgNode, dim_in: int) -> None:
        super().__init__()
        node = cfg.MODEL.IA_STRUCTURE
        self.node = node
        self.parallel = node.STRUCTURE == "parallel"
        self.dense = node.STRUCTURE == "dense"
        self.layers = [list(layer) if self.parallel else [layer] for layer in node.I_BLOCK_LIST]
        kinds = {kind for layer in self.layers for kind in layer}
        bias, dim = not node.NO_BIAS, node.DIM_INNER
        names = {"P": "person_key_dim_reduce", "O": "object_dim_reduce", "M": "mem_dim_reduce"}
        for name in ("person_dim_reduce", *(names[kind] for kind in sorted(kinds))):
            self.add_module(name, nn.Conv3d(dim_in, dim, 1, bias=bias))
        seconds = sum(node.LENGTH) + 1
        used = dict.fromkeys(names, 0)
        self.names: list[list[str]] = []
        for i, layer in enumerate(self.layers):
            self.names.append([])
            for kind in layer:
                used[kind] += 1
                self.names[i].append(f"{kind}_block_{used[kind]}")
                placed = seconds if kind == "M" and node.TEMPORAL_POSITION else None
                dim_out = node.DIM_OUT if i + 1 == len(self.layers) else dim
                self.add_module(self.names[i][-1], _AttentionBlock(node, dim_out, seconds=placed))
        if self.dense:
            mixtures = {str(i): nn.Parameter(torch.zeros(i, dim, 1, 1, 1)) for i in range(2, len(self.layers))}
            self.dense_params = nn.ParameterDict(mixtures)

    def forward(self, persons: Tensor, objects: Tensor, memory: Tensor | None, counts: Counts) -> Tensor:
        """Pooled persons [R, C, 1, 1, 1] and objects [O, C, 1, 1, 1] to [R, E, 1, 1, 1]."""
        query = self.person_dim_reduce(persons)
        key = self.person_key_dim_reduce(persons) if hasattr(self, "person_key_dim_reduce") else query
        seen: dict[str, Tensor] = {}
        if hasattr(self, "mem_dim_reduce"):
            seen["M"] = self.mem_dim_reduce(self._memory(persons, memory, counts))
        if hasattr(self, "object_dim_reduce"):
            seen["O"] = self.object_dim_reduce(self._copies(objects, counts.objects, counts, self.node.MAX_OBJECT))

        def run(i: int, j: int, x: Tensor, others: Tensor) -> Tensor:
            kind = self.layers[i][j]
            context = self._copies(others, counts.persons, counts, self.node.MAX_PERSON) if kind == "P" else seen[kind]
            return getattr(self, self.names[i][j])(x, context)

        if self.parallel:
            return self._parallel(query, key, run)
        outputs: list[Tensor] = []
        for i in range(len(self.layers)):
            query = self._mixed(outputs) if len(outputs) > 1 else (outputs[-1] if outputs else query)
            outputs.append(run(i, 0, query, key if i == 0 else query))
        return outputs[-1]

    def _parallel(self, query: Tensor, key: Tensor, run: Callable[[int, int, Tensor, Tensor], Tensor]) -> Tensor:
        columns = [query] * len(self.layers[0])
        for i, layer in enumerate(self.layers):
            refined = []
            for j, kind in enumerate(layer):
                refined.append(run(i, j, columns[j], key))
                key = refined[-1] if kind == "P" and i + 1 < len(self.layers) else key
            columns = refined
        return sum(columns[1:], columns[0])

    def _mixed(self, outputs: list[Tensor]) -> Tensor:
        if not self.dense:
            return outputs[-1]
        weights = self.dense_params[str(len(outputs))].softmax(dim=0)
        return sum(output * weight for output, weight in zip(outputs, weights, strict=True))

    def _copies(self, rows: Tensor, per_clip: Sequence[int], counts: Counts, slots: int) -> Tensor:
        """[n, C, 1, 1, 1] to [R, C, slots, 1, 1]: each person's own, zeros in empty slots."""
        copies = []
        for part, people in zip(rows.flatten(1).split(list(per_clip)), counts.persons, strict=True):
            chosen = torch.randperm(len(part))[:slots] if self.training and len(part) > slots else slice(slots)
            part = F.pad(part[chosen], (0, 0, 0, slots - len(part[chosen])))
            copies.append(part.t().repeat(people, 1, 1))
        return torch.cat(copies)[..., None, None]

    def _memory(self, persons: Tensor, memory: Tensor | None, counts: Counts) -> Tensor:
        """[N, S, Q, C] to [R, C, S Q, 1, 1]; the clip's own persons stand in the middle."""
        slots, before = self.node.MAX_PER_SEC, self.node.LENGTH[0]
        own = persons.detach().flatten(1).split(counts.persons)
        copies = []
        for i, people in enumerate(counts.persons):
            chosen = torch.randperm(people)[:slots] if self.training and people > slots else slice(slots)
            rows = own[i][chosen]
            known = persons.new_zeros(sum(self.node.LENGTH) + 1, slots, rows.shape[1])
            if memory is not None:
                known = known + memory[i]
            known[before] = F.pad(rows, (0, 0, 0, slots - len(rows)))
            copies.append(known.flatten(0, 1).t().repeat(people, 1, 1))
        return torch.cat(copies)[..., None, None]
