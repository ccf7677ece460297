"""The state of the process's random generators, as tensors and plain values."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)


def capture(device: torch.device) -> dict[str, Any]:
    """States of Python's, numpy's and torch's generators, and of `device`'s own if it is not the CPU."""
    version, numbers, gauss = random.getstate()
    name, words, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (libraries draw from it)
    states: dict[str, Any] = {
        "python": {"version": version, "numbers": torch.tensor(numbers, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "words": torch.from_numpy(np.asarray(words).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if device.type != "cpu":
        states["device_type"] = device.type
        states["device"] = getattr(torch, device.type).get_rng_state(device)
    return states


def restore(states: Mapping[str, Any], *, device: torch.device) -> None:
    """Sets the generators to what `capture` found."""
    python, numpy = states["python"], states["numpy"]
    random.setstate((python["version"], tuple(python["numbers"].tolist()), python["gauss"]))
    words = numpy["words"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        (numpy["name"], words, numpy["position"], numpy["has_gauss"], numpy["cached"])
    )
    torch.set_rng_state(states["torch"].clone())
    if device.type == "cpu":
        return
    if states.get("device_type") == device.type:
        getattr(torch, device.type).set_rng_state(states["device"].clone(), device)
    else:
        logger.warning(
            "The checkpoint was written on another kind of device: dropout will draw other numbers from here."
        )
