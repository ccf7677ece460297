"""Non-local block (Wang et al., 2018): every cell of a clip looks at every other.

Shapes: N clips, C channels, T frames, H x W cells, P = T * H * W query cells, Q key cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from alphaction.layers import Conv3d
from alphaction.modeling.blocks import BatchNormOptions


@dataclass(frozen=True)
class NonLocalOptions:
    """How non-local blocks work (keys MODEL.NONLOCAL.*).

    Attributes:
        init_std: standard deviation of fresh convolutions.
        zero_init: the last convolution begins at 0, so that a fresh block is the identity.
        bias: convolutions have a bias.
        max_pool: keys and values are pooled, 2 x 2 cells of `pool_frames` frames to one.
        pool_frames: see there.
        softmax: soft-max weights; False: dot products divided by Q.
        scale: dot products are divided by sqrt(inner channels) before the soft-max.
        bn: batch norm of the result; None: no batch norm.
    """

    init_std: float = 0.01
    zero_init: bool = False
    bias: bool = True
    max_pool: bool = True
    pool_frames: int = 1
    softmax: bool = True
    scale: bool = True
    bn: BatchNormOptions | None = field(default_factory=BatchNormOptions)


class NonLocalBlock(nn.Module):
    """x + BN(out(attention(theta(x), phi(x), g(x))))."""

    def __init__(self, dim: int, dim_inner: int, *, options: NonLocalOptions, group_frames: int | None = None) -> None:
        """Args: `group_frames` cuts the clip into runs of that many frames which attend only to themselves."""
        super().__init__()
        self.options = options
        self.group_frames = group_frames
        self.theta = Conv3d(dim, dim_inner, 1, bias=options.bias)
        self.phi = Conv3d(dim, dim_inner, 1, bias=options.bias)
        self.g = Conv3d(dim, dim_inner, 1, bias=options.bias)
        self.out = Conv3d(dim_inner, dim, 1, bias=options.bias)
        self.pool = nn.MaxPool3d((options.pool_frames, 2, 2)) if options.max_pool else nn.Identity()
        self.bn: nn.Module = nn.Identity()
        if options.bn is not None:
            self.bn = bn = options.bn.make(dim)
            # Frozen or not, unlike in residual branches: the constant is what a weight file replaces.
            nn.init.constant_(bn.weight, options.bn.last_gamma)
        self._initialise()

    def _initialise(self) -> None:
        for conv in (self.theta, self.phi, self.g, self.out):
            nn.init.normal_(conv.weight, std=self.options.init_std)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        if self.options.zero_init:
            nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, H, W] to the same shape."""
        if self.group_frames is None:
            return self._attend(x)
        n, _, t, _, _ = x.shape
        if t % self.group_frames:
            raise ValueError(f"grouped non-local block: got {t} frames, expected a multiple of {self.group_frames}")
        # [N, C, T, H, W] -> [N * groups, C, T / groups, H, W] and back
        groups = t // self.group_frames
        x = x.unflatten(2, (groups, self.group_frames)).transpose(1, 2).flatten(0, 1)
        return self._attend(x).unflatten(0, (n, groups)).transpose(1, 2).flatten(2, 3)

    def _attend(self, x: Tensor) -> Tensor:
        source = self.pool(x)
        query = self.theta(x).flatten(2).transpose(1, 2)  # [N, P, C']
        key = self.phi(source).flatten(2)  # [N, C', Q]
        value = self.g(source).flatten(2).transpose(1, 2)  # [N, Q, C']
        weights = query @ key
        if self.options.softmax:
            if self.options.scale:
                weights = weights * query.shape[2] ** -0.5
            weights = weights.softmax(dim=2)
        else:
            weights = weights / key.shape[2]
        gathered = (weights @ value).transpose(1, 2).unflatten(2, x.shape[2:])
        return self.out.normed(gathered, self.bn, add=x)
