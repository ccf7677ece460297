"""The memory as the golden tests of the network need it, filled by the recorded rules."""

from __future__ import annotations

import re

import numpy as np
import torch
from goldens import fill

from alphaction.structures import FeatureMemory, MemorySpan, MemoryWindow

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


def loss_of(store, key):
    """The loss that the slot of (video, seconds) is tagged with, as a checkpoint has it."""
    state = store.state_dict()
    place = (state["movies"].index(key[0]), store.slot(key[1]))
    slots = list(zip(state["movie"].tolist(), state["slot"].tolist(), strict=True))
    return float(state["loss"][slots.index(place)])


def dense(window):
    """A window with its empty places, [N, S, Q, C]."""
    clips, _, channels = window.rows.shape
    moments, places = window.span.moments, window.span.persons
    out = torch.zeros(clips, moments, places, channels, dtype=window.rows.dtype)
    for clip in range(clips):
        used = [0] * moments
        for row, moment in zip(window.rows[clip], window.moments[clip].tolist(), strict=True):
            if moment == moments:
                assert not row.any()  # padding
                continue
            out[clip, moment, used[moment]] = row
            used[moment] += 1
        assert window.counts[clip].tolist() == used
    return out


def window_of(values, span):
    """The window that shows values [N, S, Q, C], of which those that are all zero are empty places."""
    filled = values.any(dim=3)
    counts = filled.sum(dim=(1, 2)).tolist()
    rows = values.new_zeros(len(values), max(counts), values.shape[3])
    moments = torch.full(rows.shape[:2], span.moments)
    for clip, count in enumerate(counts):
        rows[clip, :count] = values[clip][filled[clip]]
        moments[clip, :count] = filled[clip].nonzero()[:, 0]
    return MemoryWindow(rows, moments, span)


def complete(structure, features, memory):
    """The memory that M blocks see, with the clip's own persons, [N, S, Q, C]."""
    parts, moments = structure.memory_rows(features, memory)
    limits = structure.limits
    span = MemorySpan(limits.seconds_before, limits.seconds_after, 1, limits.per_second)
    return dense(MemoryWindow(torch.cat(parts, dim=1), moments, span))


def joined(windows):
    """The windows of several batches as one."""
    return window_of(torch.cat([dense(window) for window in windows]), windows[0].span)


def span_of(cfg):
    node = cfg.MODEL.IA_STRUCTURE
    before, after = node.LENGTH
    return MemorySpan(before=before, after=after, rate=node.MEMORY_RATE, persons=node.MAX_PER_SEC)
