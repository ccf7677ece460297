"""The action head: from the feature of a person to the logits of the action classes.

Shapes: R persons over all clips, C channels of a pooled feature, D hidden units, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from alphaction.structures import RoiFeatures


class PersonFeatureHead(nn.Module):
    """Two fully connected layers with ReLU on the pooled person feature."""

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim_in, dim)
        self.fc2 = nn.Linear(dim, dim)
        self.relu = nn.ReLU(inplace=True)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)  # variance 1 / fan-in
            nn.init.zeros_(layer.bias)

    def forward(self, features: RoiFeatures) -> Tensor:
        """[R, D]."""
        return self.relu(self.fc2(self.relu(self.fc1(features.person.flatten(1)))))


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

    def __init__(self, dim_in: int, *, dim: int, num_classes: int, dropout: float = 0.0) -> None:
        """Args: `dim_in` C, `dim` D, `num_classes` K; `dropout` is a probability."""
        super().__init__()
        self.feature_extractor = PersonFeatureHead(dim_in, dim)
        self.predictor = ActionPredictor(dim, num_classes=num_classes, dropout=dropout)

    def forward(self, features: RoiFeatures) -> Tensor:
        """Logits [R, K]."""
        return self.predictor(self.feature_extractor(features))
