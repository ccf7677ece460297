"""Whether all processes start from the same."""

from __future__ import annotations

import pathlib

from alphaction.errors import CheckpointError
from alphaction.utils.distributed import Processes


def check_agreement(source: pathlib.Path | None, iteration: int, processes: Processes) -> None:
    """To be called by every process after it has read where the run starts.

    Raises:
        CheckpointError: they have read different files, as machines without a common folder do.
    """
    starts = processes.gather(("" if source is None else str(source), iteration))
    if len(set(starts)) == 1:
        return
    kinds: dict[tuple[str, int], list[str]] = {}
    for rank, start in enumerate(starts):
        kinds.setdefault(start, []).append(str(rank))
    told = "; ".join(
        f"process{'es' * (len(ranks) > 1)} {', '.join(ranks)}: {file or 'from scratch'}, iteration {number}"
        for (file, number), ranks in kinds.items()
    )
    error = CheckpointError(
        f"the processes start from different files ({told}). OUTPUT_DIR and MODEL.WEIGHT must be the same files on "
        "every machine: use a folder that all of them see, or copy the checkpoints and last_checkpoint."
    )
    error.told_elsewhere = not processes.is_main
    raise error
