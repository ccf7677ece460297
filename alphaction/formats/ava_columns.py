"""The columns of AVA's CSV files, by their place or by a header line, and the times in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

# In the order that they have without a header; the last two share the eighth place.
COLUMNS = {
    "movie": ("video_id", "video", "movie", "movie_id", "video_name", "clip"),
    "time": ("timestamp", "time", "second", "frame_timestamp", "middle_frame_timestamp"),
    "x1": ("x1", "xmin", "x_min", "entity_box_x1"),
    "y1": ("y1", "ymin", "y_min", "entity_box_y1"),
    "x2": ("x2", "xmax", "x_max", "entity_box_x2"),
    "y2": ("y2", "ymax", "y_max", "entity_box_y2"),
    "action": ("action_id", "action", "label", "label_id", "class", "class_id", "category_id"),
    "person": ("person_id", "person", "entity_id", "track_id"),
    "score": ("score", "confidence", "probability"),
}
NEEDED = tuple(COLUMNS)[:7]


def header_columns(row: Sequence[str]) -> dict[str, int]:
    """Place of each column of `COLUMNS` that the fields of a header line name; empty for a line of numbers."""
    names = [cell.strip().casefold() for cell in row]
    places = {key: next((names.index(name) for name in known if name in names), -1) for key, known in COLUMNS.items()}
    return {key: place for key, place in places.items() if place >= 0}


def parse_time(value: object) -> float | None:
    """Seconds from a number or a text such as "0902" or "12.5"; None if it is neither or negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        time = float(value)
    except ValueError:
        return None
    return time if math.isfinite(time) and time >= 0 else None
