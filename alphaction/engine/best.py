"""The best validation of a run, and whether it is still worth going on."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

#: Entry of a checkpoint.
BEST_MEAN = "best_mean"


class BestValidation:
    """Judges validations by their mean mAP over the data sets.

    Args:
        patience: so many validations without a better one end the training; 0 = never. Also an attribute.
    """

    def __init__(self, *, patience: int = 0) -> None:
        self.patience = patience
        self._mAP = -math.inf
        self._iteration = 0
        self._since = 0
        self._sets: list[str] = []  # whose mean it is; empty = unknown

    def note(self, scores: Mapping[str, float], *, iteration: int) -> bool:
        """Takes in the mAP of each data set; returns whether their mean is the best so far.

        Data sets without ground truth (NaN) do not count; a validation with nothing else is not judged. With other data
        sets than before the comparison begins anew.
        """
        known = {name: score for name, score in scores.items() if not math.isnan(score)}
        if not known:
            return False
        if self._sets and self._sets != sorted(known):
            logger.warning(
                "Validated on %s, but before on %s: the best validation so far does not count any more.",
                ", ".join(sorted(known)), ", ".join(self._sets),
            )  # fmt: skip
            self._mAP = -math.inf
        self._sets = sorted(known)
        mean = sum(known.values()) / len(known)
        if mean > self._mAP:
            self._mAP, self._iteration, self._since = mean, iteration, 0
            return True
        self._since += 1
        return False

    @property
    def is_exhausted(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self._since

    @property
    def is_known(self) -> bool:
        """Whether any validation was judged."""
        return math.isfinite(self._mAP)

    def describe(self) -> str:
        """The best one, for the log."""
        validations = "validation" if self._since == 1 else "validations"
        return f"mean mAP {self._mAP:.4f} at iteration {self._iteration}, {self._since} {validations} ago"

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"mAP": self._mAP, "iteration": self._iteration, "since": self._since, "sets": [*self._sets]}

    def load(self, extra: Mapping[str, object]) -> None:
        """Goes on with what the further entries of a resumed checkpoint say; without any nothing is known."""
        saved = extra.get(BEST_MEAN)
        if isinstance(saved, Mapping):
            self._mAP, self._iteration = float(saved["mAP"]), int(saved["iteration"])
            self._since = int(saved["since"])
            self._sets = [str(name) for name in saved.get("sets", ())]
