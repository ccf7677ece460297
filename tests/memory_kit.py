"""The memory as the golden tests of the network need it, filled by the recorded rules."""

from __future__ import annotations

import re

import numpy as np
import torch
from goldens import fill

from alphaction.structures import FeatureMemory, MemorySpan

FEATURE = re.compile(
    r"(?P<absolute>numpy\.abs\()?fill\.(?P<kind>bell|unit)\('(?P<name>[^']+)', \(count, (?P<channels>\d+)\), salt"
    r"(?:, (?P<lo>[\d.]+), (?P<hi>[\d.]+))?\)"
)


def recorded_pool(entries, rule, *, salt, tag=""):
    """{(movie, second): features [persons, C]} of the entries (movie, second, persons, ...).

    rule: how the features are made, as the meta writes it, e.g.
    "fill.unit('k/pool/<movie>/<second>', (count, 2304), salt, 0.0, 3.0)".
    """
    match = FEATURE.match(rule)
    assert match, rule
    bounds = [float(match[key]) for key in ("lo", "hi") if match[key]]
    pool = {}
    for movie, second, count, *_ in entries:
        name = match["name"].replace("<tag>", tag).replace("<movie>", movie).replace("<second>", str(second))
        values = getattr(fill, match["kind"])(name, (count, int(match["channels"])), salt, *bounds)
        pool[movie, second] = torch.from_numpy(np.abs(values) if match["absolute"] else values)
    return pool


def store_of(pool, cfg, *, channels, tags=None):
    """A memory that holds the pool; `tags`: the loss of each entry."""
    store = FeatureMemory(channels, step=cfg.MODEL.IA_STRUCTURE.MEMORY_STEP)
    for key, persons in pool.items():
        store.put([key], persons, [len(persons)], losses=[tags[key] if tags else 0.0])
    return store


def span_of(cfg):
    node = cfg.MODEL.IA_STRUCTURE
    before, after = node.LENGTH
    return MemorySpan(before=before, after=after, rate=node.MEMORY_RATE, persons=node.MAX_PER_SEC)
