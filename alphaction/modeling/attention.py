"""The block that interaction is made of: persons attend to a context, which may have empty slots.

Shapes: N clips, R persons over all clips, D inner channels, E output channels, S moments of a context (1 of one without
time), L rows of its real slots, W channels of a row.

Empty slots are equal to each other, those of a moment also after its temporal position is added. So all that a moment
has are one more summand of the soft-max, with log(how many) added to its logit. Nothing is computed for the slots
themselves: q . (K x + k) = (q K) . x + q . k and sum a (V x + v) = V (sum a x) + v, so that persons, of which there are
fewer, go through the matrices instead of slots. The results are those of the plain attention over all slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class Pointwise(nn.Conv3d):
    """A linear layer whose weight has the shape of a 1 x 1 x 1 convolution, as in the weight files."""

    def __init__(self, dim_in: int, dim_out: int, *, bias: bool, init_std: float) -> None:
        super().__init__(dim_in, dim_out, 1, bias=bias)
        nn.init.normal_(self.weight, std=init_std) if init_std else nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim_in] to [..., dim_out]."""
        return F.linear(x, self.weight.flatten(1), self.bias)

    def backwards(self, y: Tensor) -> Tensor:
        """[..., dim_out] to [..., dim_in]: y . (weight x) = backwards(y) . x."""
        return F.linear(y, self.weight.flatten(1).t())


class ClipRows:
    """Moves persons or objects between [R, D], all clips one after the other, and [N, slots, D], padded with zeros."""

    def __init__(self, counts: Sequence[int]) -> None:
        """Args: `counts` are the rows of each clip."""
        self.counts = list(counts)
        self.widest = max(self.counts, default=0)
        self._places: dict[torch.device, Tensor] = {}

    def at_most(self, slots: int, choose: Choose) -> tuple[ClipRows, Tensor | None]:
        """Those that stay where a clip has room for so many, and their rows; None: all of them.

        Args:
            choose: (rows, slots) to the rows that stay, where a clip has more than fit.
        """
        if self.widest <= slots:
            return self, None
        kept, first = [], 0
        for count in self.counts:
            kept.append(first + (choose(count, slots) if count > slots else torch.arange(count)))
            first += count
        return ClipRows([min(count, slots) for count in self.counts]), torch.cat(kept)

    def to_clips(self, x: Tensor) -> Tensor:
        """[R, D] to [N, rows of the fullest clip, D]."""
        shape = (len(self.counts), self.widest)
        if self._are_equal:
            return x.unflatten(0, shape)
        padded = x.new_zeros(shape[0] * shape[1], x.shape[1])
        return padded.index_copy(0, self._at(x.device), x).unflatten(0, shape)

    def from_clips(self, x: Tensor) -> Tensor:
        """The inverse of `to_clips`."""
        x = x.flatten(0, 1)
        return x if self._are_equal else x.index_select(0, self._at(x.device))

    @cached_property
    def are_filled(self) -> Tensor:
        """Which places of `to_clips` hold a row, [N, rows of the fullest clip] on the CPU."""
        return torch.arange(self.widest) < torch.tensor(self.counts, dtype=torch.int64)[:, None]

    @property
    def _are_equal(self) -> bool:
        return len(self.counts) > 0 and min(self.counts) == self.widest

    def _at(self, device: torch.device) -> Tensor:
        """The row in [N * widest] of each row, made once for all blocks."""
        if device not in self._places:
            filled = np.arange(self.widest) < np.array(self.counts, np.int64)[:, None]
            self._places[device] = torch.from_numpy(np.flatnonzero(filled)).to(device, non_blocking=True)
        return self._places[device]


@dataclass(frozen=True)
class Context:
    """What the persons of each clip attend to.

    Attributes:
        parts: rows of the real slots, [N, L_i, W] each; L is all of them.
        moments: int64 [N, L], 0 .. S - 1 the moment of each row; S = no row.
        log_empty: logarithm of how many empty slots each moment has, [N, 1, S].
        empty_row: what an empty slot holds, [D]; None: zeros.
        reduce: makes D channels of W; None: W = D.
    """

    parts: Sequence[Tensor]
    moments: Tensor
    log_empty: Tensor
    empty_row: Tensor | None = None
    reduce: Pointwise | None = None

    @classmethod
    def of(
        cls,
        parts: Sequence[Tensor],
        moments: Tensor,
        *,
        places: Tensor,
        empty_row: Tensor | None = None,
        reduce: Pointwise | None = None,
    ) -> Context:
        """A context of `moments` [N, L] and `places` [S] per moment, both on the CPU."""
        length = len(places)
        taken = F.one_hot(moments, length + 1)[:, :, :length].sum(dim=1)
        part = parts[0]
        kind = torch.promote_types(part.dtype, torch.float32)  # 8 bits are too few for a logit
        log_empty = (places - taken).to(kind).log().unsqueeze(1)  # minus infinity where no slot is empty
        # Not waited for: a GPU would have to finish the backbone first.
        moments, log_empty = (x.to(part.device, non_blocking=True) for x in (moments, log_empty))
        return cls(parts, moments, log_empty, empty_row, reduce)

    @property
    def num_moments(self) -> int:
        """S."""
        return self.log_empty.shape[2]

    @cached_property
    def is_padding(self) -> Tensor:
        """[N, 1, L]."""
        return (self.moments == self.num_moments).unsqueeze(1)

    @cached_property
    def of_moment(self) -> Tensor:
        """Which moment a row is of, as zeros and ones [N, L, S]."""
        return F.one_hot(self.moments, self.num_moments + 1)[:, :, :-1].to(self.parts[0].dtype)


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

    def forward(self, persons: Tensor, context: Context, rows: ClipRows) -> Tensor:
        """Persons [R, D] of the clips `rows`, and these clips' contexts, to [R, E]."""
        query = self.query(persons) * persons.shape[1] ** -0.5
        gathered = self._value_of(self._attention(query, context, rows), context, rows)
        if self.layer_norm:
            gathered = F.layer_norm(gathered, gathered.shape[1:])
        change = self.dropout(self.out(F.relu(gathered)))
        return change + (persons if self.shortcut is None else self.shortcut(persons))

    def _attention(self, query: Tensor, context: Context, rows: ClipRows) -> Tensor:
        """How much each person looks at each row and at the empty slots of each moment, [N, persons, L + S]."""
        toward = self.key.backwards(query)  # [R, D]: its product with a row of D channels is the logit
        wide = toward if context.reduce is None else context.reduce.backwards(toward)
        wide = rows.to_clips(wide)
        logits = torch.cat([wide @ part.transpose(1, 2) for part in context.parts], dim=2)
        moments = self._logits_of_moments(query, toward, context)
        of_row, of_empty = (rows.to_clips(part) for part in moments)
        if self.temporal_position_k is not None:
            of_row = of_row @ context.of_moment.transpose(1, 2)
        logits = (logits + of_row).masked_fill(context.is_padding, -torch.inf)
        attention = torch.cat([logits, of_empty + context.log_empty], dim=2).softmax(dim=2)
        return attention.to(context.parts[0].dtype)

    def _logits_of_moments(self, query: Tensor, toward: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """What all rows of a moment have in common in their logits, [R, S or 1], and the logits of its empty slots."""
        common = query.new_zeros(len(query), 1)
        if self.key.bias is not None:
            common = (query * self.key.bias).sum(dim=1, keepdim=True)
        if self.temporal_position_k is not None:
            common = common + query @ self.temporal_position_k.flatten(1).t()
        if context.empty_row is None:
            return common, common
        empty = common + (toward * context.empty_row).sum(dim=1, keepdim=True)
        return (common if context.reduce is None else empty), empty

    def _value_of(self, attention: Tensor, context: Context, rows: ClipRows) -> Tensor:
        """The values that each person gathers, [R, D]."""
        sizes = [part.shape[1] for part in context.parts]
        *of_rows, of_empty = attention.split([*sizes, context.num_moments], dim=2)
        seen = sum(weight @ part for weight, part in zip(of_rows, context.parts, strict=True))
        seen = rows.from_clips(seen)
        if context.reduce is not None:
            seen = context.reduce(seen)  # its bias, too: rows and empty slots have it, and all weights are 1 together
        elif context.empty_row is not None:
            seen = seen + rows.from_clips(of_empty.sum(dim=2, keepdim=True)) * context.empty_row
        value = self.value(seen)
        if self.temporal_position_v is None:
            return value
        of_moments = attention[:, :, : sum(sizes)] @ context.of_moment + of_empty
        return value + rows.from_clips(of_moments) @ self.temporal_position_v.flatten(1)
