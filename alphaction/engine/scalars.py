"""Figures of a run over its iterations: `metrics.jsonl`, and TensorBoard events when asked for."""

from __future__ import annotations

import json
import math
import pathlib

from tensorboardX import SummaryWriter


class ScalarLog:
    """Appends one JSON line per call to `metrics.jsonl`; with `tensorboard`, the same figures as events.

    Both lie in the run's folder itself, so that `tensorboard --logdir OUTPUT_DIR` finds them. A run that was killed
    after its last checkpoint repeats some iterations: TensorBoard is told to forget the earlier ones; in the other file
    the later line of an iteration counts.

    Args:
        start_iter: iteration that a resumed run goes on from.
    """

    def __init__(self, output_dir: pathlib.Path, *, tensorboard: bool, start_iter: int = 0) -> None:
        path = output_dir / "metrics.jsonl"
        remove_partial_line(path)
        self._file = path.open("a", encoding="utf-8")
        purge = start_iter + 1 if start_iter else None
        self._events = SummaryWriter(str(output_dir), purge_step=purge) if tensorboard else None

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


class NoScalars:
    """Of several processes one writes the figures; the others have this."""

    def write(self, scalars: dict[str, float], iteration: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def open_scalars(
    output_dir: pathlib.Path, *, tensorboard: bool, start_iter: int = 0, is_main: bool = True
) -> ScalarLog | NoScalars:
    """A `ScalarLog` in the main process, a writer that does nothing in the others."""
    return ScalarLog(output_dir, tensorboard=tensorboard, start_iter=start_iter) if is_main else NoScalars()


def remove_partial_line(path: pathlib.Path) -> None:
    """Cuts off a last line that a killed run could not finish."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
