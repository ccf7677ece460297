"""One place that seeds every generator of the process."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seeds Python, numpy and torch (all devices). Samples draw from generators of their own (see the dataset)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (for code of others that draws from it)
    torch.manual_seed(seed % 2**63)


def seed_rank(seed: int, rank: int) -> None:
    """Gives the processes after the first numbers of their own, so that dropout differs; called after the network is
    made, which must be the same in all.

    Process 0 goes on as a run of one process does.
    """
    if rank:
        seed_all(seed + rank)
