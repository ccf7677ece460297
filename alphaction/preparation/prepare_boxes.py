"""Settles what the four numbers of a box mean, and turns boxes into corners as shares (0..1) of the picture.

Two questions: pixels or shares, and corners or left, top, width, height. What the form says is checked against the
numbers; where they contradict each other, or say nothing, the user must decide.

Shapes: R boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alphaction.errors import DataError
from alphaction.preparation.prepare_evidence import Assumption, share

#: What `--box-format` may be.
FORMATS = ("auto", "xyxy", "xywh", "xyxy-pixels", "xywh-pixels", "xyxy-shares", "xywh-shares")
_SMALL = 1.5  # a share is at most 1; a few tools write a little more
_FEW = 0.02  # share of boxes that may be faulty without speaking against a reading
_MANY = 0.2  # from here on they do


class Reading(NamedTuple):
    """How the boxes of some files are read. `order` is "xyxy" or "xywh"."""

    pixels: bool
    order: str
    assumption: Assumption


def settle_boxes(
    boxes: np.ndarray,
    size: np.ndarray,
    area: np.ndarray,
    *,
    files: str,
    form: str,
    order: str,
    box_format: str = "auto",
) -> Reading:
    """Decides how boxes are to be read.

    Args:
        boxes: float64 [R, 4], as written.
        size: float64 [R, 2], (height, width) of their pictures in pixels.
        area: float64 [R], as the file says; 0 = it does not.
        files: for messages.
        form: of the files, for messages.
        order: what the form says: "xyxy", "xywh" or "".
        box_format: one of `FORMATS`.

    Raises:
        DataError: the evidence is contradictory or not there.
    """
    flag_order, _, flag_units = box_format.partition("-")
    if box_format == "auto":
        flag_order = ""
    pixels, why_units = _units(boxes, files, flag_units, box_format)
    scale = size[:, ::-1] if pixels else np.ones((len(boxes), 2))
    if flag_order:
        chosen, why_order = flag_order, f"--box-format {box_format} says so"
    else:
        chosen, why_order = _order(boxes, scale, area, files=files, form=form, said=order)
    names = {"xyxy": "corners x1, y1, x2, y2", "xywh": "left, top, width, height"}
    value = f"{names[chosen]} in {'pixels' if pixels else 'shares (0..1) of width and height'}"
    return Reading(pixels, chosen, Assumption("boxes", value, f"{why_units}, and {why_order}", files))


def to_shares(boxes: np.ndarray, size: np.ndarray, reading: Reading) -> np.ndarray:
    """Corners [R, 4] in shares; `size` as in `settle_boxes`."""
    corners = boxes.copy()
    if reading.order == "xywh":
        corners[:, 2:] += corners[:, :2]
    if reading.pixels:
        corners /= np.tile(size[:, ::-1], 2)
    return corners


def box_faults(corners: np.ndarray, size: np.ndarray) -> dict[str, np.ndarray]:
    """Rows that cannot be used, by reason; `corners` in shares, `size` (height, width) in pixels."""
    wide = (corners[:, 2:] - corners[:, :2]) * size[:, ::-1]
    inside = np.clip(corners, 0, 1)
    seen = (inside[:, 2:] - inside[:, :2]) * size[:, ::-1]
    none = (wide <= 0).any(axis=1)
    thin = ~none & (wide <= 1).any(axis=1)
    outside = ~none & ~thin & (seen <= 1).any(axis=1)
    faults = {
        "box without a size (x2 <= x1 or y2 <= y1)": none,
        "box of one pixel or less": thin,
        "box outside the picture": outside,
    }
    return {reason: np.flatnonzero(rows) for reason, rows in faults.items() if rows.any()}


def _units(boxes: np.ndarray, files: str, flag: str, box_format: str) -> tuple[bool, str]:
    small = np.abs(boxes).max(axis=1) <= _SMALL
    if flag:
        return flag == "pixels", f"--box-format {box_format} says so"
    rate = small.mean()
    largest = np.abs(boxes).max()
    if rate >= 1 - _FEW:
        return False, f"{share(int(small.sum()), len(boxes), 'box')} lie in 0..1"
    if rate <= _FEW:
        return True, f"{share(int((~small).sum()), len(boxes), 'box')} have numbers above 1 (up to {largest:g})"
    raise DataError(
        f"{files}: are the boxes pixels or shares (0..1)? {share(int(small.sum()), len(boxes), 'box')} within "
        f"0..1, the others not (numbers up to {largest:g}). Say which with --box-format, e.g. "
        "xyxy-pixels or xywh-shares, or mend the file"
    )


def _order(
    boxes: np.ndarray, scale: np.ndarray, area: np.ndarray, *, files: str, form: str, said: str
) -> tuple[str, str]:
    """Corners that do not ascend speak against `xyxy`, boxes that leave the picture against `xywh`."""
    descending = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    leaving = (boxes[:, :2] + boxes[:, 2:] > scale * 1.02 + 1e-9).any(axis=1)
    bad = {"xyxy": descending.mean(), "xywh": leaving.mean()}
    told = {
        "xyxy": f"{share(int(descending.sum()), len(boxes), 'box')} would have x2 <= x1 or y2 <= y1 as corners",
        "xywh": f"{share(int(leaving.sum()), len(boxes), 'box')} would reach out of the picture as x, y, width, height",
    }
    by_area = _by_area(boxes, area)
    likely = said or by_area or ("xywh" if "JSON" in form else "")
    other = "xyxy" if likely == "xywh" else "xywh"
    if by_area and by_area != likely or bad.get(likely, 0) > _MANY:
        if bad[other] <= _FEW and (not said or form == "COCO JSON") and by_area in ("", other):
            return other, told[likely]
        raise DataError(
            f"{files}: what are the four numbers of a box? {form} says {likely}, but {told[likely]}, and {told[other]}"
            f"{f'; the areas fit {by_area}' if by_area else ''}. Say --box-format xyxy or --box-format xywh, "
            "or mend the file"
        )
    if likely:
        grounds = f"{form} has them in this order"
        if likely != said and by_area:
            grounds = "width times height are the written areas"
        return likely, f"{grounds} and the numbers agree" if bad[other] > _FEW else grounds
    raise DataError(f"{files}: what are the four numbers of a box? Say --box-format xyxy or --box-format xywh")


def _by_area(boxes: np.ndarray, area: np.ndarray) -> str:
    """The order that the written areas fit, "" if they fit none or both."""
    known = area > 0
    if known.sum() < max(1, len(boxes) // 2):
        return ""
    boxes, area = boxes[known], area[known]
    as_xywh = np.isclose(boxes[:, 2] * boxes[:, 3], area, rtol=0.02).mean() > 0.9
    as_xyxy = np.isclose((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), area, rtol=0.02).mean() > 0.9
    return "" if as_xywh == as_xyxy else ("xywh" if as_xywh else "xyxy")
