"""Figures of a run over its iterations: `metrics.jsonl`, and TensorBoard events when asked for."""

from __future__ import annotations

import json
import math
import pathlib

from tensorboardX import SummaryWriter


class ScalarLog:
    """Appends one JSON line per call to `metrics.jsonl`; with `tensorboard`, the same figures as events.

    Both lie in the run's folder itself, so that `tensorboard --logdir OUTPUT_DIR` finds them.
    """

    def __init__(self, output_dir: pathlib.Path, *, tensorboard: bool) -> None:
        self._file = (output_dir / "metrics.jsonl").open("a", encoding="utf-8")
        self._events = SummaryWriter(str(output_dir)) if tensorboard else None

    def write(self, scalars: dict[str, float], iteration: int) -> None:
        # NaN is no JSON: a figure that does not exist (mAP of a set without annotations) is null.
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._file.write(json.dumps({"iteration": iteration, **finite}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in scalars.items():
                self._events.add_scalar(name, value, iteration)
            self._events.flush()

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()
