"""The memory as the golden tests of the network need it: pools by the recorded rules, windows around a clip."""

from __future__ import annotations

import re

import numpy as np
import torch
from goldens import fill

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


def penalised(pool, tags, now):
    """The pool, each entry scaled by min(old / new, new / old) of the loss it is tagged with and the current one."""
    return {key: value * (min(tags[key] / now, now / tags[key]) if now else 0.0) for key, value in pool.items()}


def first_ones(count, slots):
    return torch.arange(slots)


def memory_window(pool, keys, cfg, *, channels, choose=first_ones):
    """Memory [N, S, Q, C] around each (movie, second).

    A second with more than Q persons keeps those that `choose(persons, Q)` names. The clip's own second stays empty.
    """
    node = cfg.MODEL.IA_STRUCTURE
    before, after = node.LENGTH
    memory = torch.zeros(len(keys), before + 1 + after, node.MAX_PER_SEC, channels)
    for i, (movie, second) in enumerate(keys):
        for step in range(-before, after + 1):
            persons = pool.get((movie, second + step * node.MEMORY_RATE))
            if step and persons is not None:
                if len(persons) > node.MAX_PER_SEC:
                    persons = persons[choose(len(persons), node.MAX_PER_SEC)]
                memory[i, step + before, : len(persons)] = persons
    return memory
