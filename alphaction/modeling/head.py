"""The action head: from the feature of a person to the logits of the action classes.

Shapes: N clips, R persons over all clips, C channels of a pooled feature, E of a refined one, D hidden units,
K classes; S, Q: see `interaction`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from alphaction.modeling.interaction import InteractionStructure
from alphaction.structures import MemoryWindow, RoiFeatures

Fusion = Literal["add", "concat"]


class PersonFeatureHead(nn.Module):
    """Interaction aggregation, if any, then two fully connected layers with ReLU, or none.

    Attributes:
        dim_out: channels of the result.
    """

    def __init__(
        self,
        dim_in: int,
        dim: int | None,
        *,
        interaction: InteractionStructure | None = None,
        fusion: Fusion = "concat",
    ) -> None:
        """Args: `dim_in` C; `dim` D, None for no layers (D is then the joined width).

        `fusion` is how pooled and refined feature are joined ("add" needs E = C).
        """
        super().__init__()
        self.ia_structure = interaction
        self.fusion = fusion
        dim_fused = dim_in
        if interaction is not None:
            if fusion not in ("add", "concat"):
                raise ValueError(f"fusion: got {fusion!r}, expected 'add' or 'concat'")
            if fusion == "add" and interaction.dim_out != dim_in:
                raise ValueError(f"fusion: got {interaction.dim_out} refined channels, 'add' needs {dim_in}, as pooled")
            dim_fused += interaction.dim_out if fusion == "concat" else 0
        self.dim_out = dim_fused if dim is None else dim
        self.has_layers = dim is not None
        if dim is None:
            return
        self.fc1 = nn.Linear(dim_fused, dim)
        self.fc2 = nn.Linear(dim, dim)
        self.relu = nn.ReLU(inplace=True)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)  # variance 1 / fan-in
            nn.init.zeros_(layer.bias)

    def forward(self, features: RoiFeatures, memory: MemoryWindow | None = None) -> Tensor:
        """[R, D]; `memory` as in `InteractionStructure`."""
        persons = features.person.flatten(1)
        if self.ia_structure is not None:
            refined = self.ia_structure(features, memory)
            persons = persons + refined if self.fusion == "add" else torch.cat([persons, refined], dim=1)
        return self.hidden(persons)

    def hidden(self, persons: Tensor) -> Tensor:
        """The layers after the features were joined, if there are any: [R, joined width] to [R, D]."""
        return self.relu(self.fc2(self.relu(self.fc1(persons)))) if self.has_layers else persons


class ActionPredictor(nn.Module):
    """Dropout and a linear layer: one logit per class."""

    def __init__(self, dim_in: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.cls_score = nn.Linear(dim_in, num_classes)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.zeros_(self.cls_score.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[R, D] to [R, K]."""
        return self.cls_score(self.dropout(x))


class ActionHead(nn.Module):
    """Feature extractor and predictor (names as in the weight files)."""

    def __init__(
        self,
        dim_in: int,
        *,
        dim: int | None,
        num_classes: int,
        dropout: float = 0.0,
        interaction: InteractionStructure | None = None,
        fusion: Fusion = "concat",
    ) -> None:
        """Args: `dim_in` C, `dim` D, `num_classes` K; `dropout` is a probability; see `PersonFeatureHead`."""
        super().__init__()
        self.feature_extractor = PersonFeatureHead(dim_in, dim, interaction=interaction, fusion=fusion)
        self.predictor = ActionPredictor(self.feature_extractor.dim_out, num_classes=num_classes, dropout=dropout)

    def forward(self, features: RoiFeatures, memory: MemoryWindow | None = None) -> Tensor:
        """Logits [R, K]; `memory` as in `InteractionStructure`."""
        return self.predictor(self.feature_extractor(features, memory))
