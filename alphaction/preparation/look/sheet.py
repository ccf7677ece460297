"""Contact sheets: the annotated keyframe beside frames of the clip as the loader gives it.

The first tile shows the video and the annotation file; the others show what the network gets. What differs between them
that should not (a mirrored box on an unmirrored picture, a shifted box, a swapped size) is seen at a glance.

Shapes: T frames of a clip, h x w pixels as loaded, H x W pixels with padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from alphaction.evaluation.pictures import draw_box, draw_tag, drawable, wrap_text

PERSON, OBJECT, REGION = (70, 210, 90), (80, 150, 255), (255, 225, 70)
_TEXT, _DIM, _PAPER, _PADDING, _HATCH = (235, 235, 235), (170, 170, 170), (28, 30, 34), (60, 60, 66), (90, 90, 98)
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.46
_LINE, _GAP = 20, 8  # pixels
_TILE_WIDTH, _TILE_HEIGHT, _SHEET_WIDTH = 480, 420, 1480
_NARROW = 190  # pixels: the least width of a tile, so that the line above it fits
_FEW = 4  # persons that are drawn with broad lines
_PERSONS_NAMED = 40


@dataclass(frozen=True)
class Boxed:
    """Boxes of a picture.

    Attributes:
        persons, regions, objects: float [n, 4], inclusive corners in pixels of the picture.
        tags: a short text per person.
    """

    persons: np.ndarray
    regions: np.ndarray
    objects: np.ndarray
    tags: Sequence[str]


@dataclass(frozen=True)
class Look:
    """A sample to be drawn.

    Attributes:
        title: what it is.
        keyframe: uint8 [h, w, 3] RGB, the picture that was annotated.
        annotated: its boxes, in pixels of `keyframe`.
        frames: uint8 [T, H, W, 3] RGB as loaded, with padding.
        size: (h, w) of the frames without padding.
        loaded: their boxes.
        offsets: seconds from the keyframe of every frame; None when they are counted, not timed.
        middle: the frame that lies nearest to the keyframe.
        annotated_names, loaded_names: the actions (or the score) of every person.
        remarks: lines below the names.
    """

    title: str
    keyframe: np.ndarray
    annotated: Boxed
    frames: np.ndarray
    size: tuple[int, int]
    loaded: Boxed
    offsets: np.ndarray | None
    middle: int
    annotated_names: Sequence[str]
    loaded_names: Sequence[str]
    remarks: Sequence[str] = ()


def draw_sheet(look: Look, *, frames: int = 5) -> np.ndarray:
    """The contact sheet, uint8 [h, w, 3] RGB.

    Args:
        frames: how many frames of the clip are shown, the keyframe among them.
    """
    chosen = spread_around(look.middle, len(look.frames), frames)
    tiles = [_tile(look.keyframe, look.keyframe.shape[:2], look.annotated, "annotated keyframe")]
    tiles += [_tile(look.frames[i], look.size, look.loaded, frame_label(look, i)) for i in chosen]
    widest = max(tile.shape[1] for tile in tiles)
    columns = max(1, min(len(tiles), (_SHEET_WIDTH + _GAP) // (widest + _GAP)))
    columns = -(-len(tiles) // -(-len(tiles) // columns))  # rows of equal length
    rows = [_side_by_side(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    width = max(max(row.shape[1] for row in rows), _TILE_WIDTH)
    return np.concatenate([_pad(part, width) for part in (*_head(look, width), *rows, *_legend(look, width))], axis=0)


def film_frames(look: Look) -> list[np.ndarray]:
    """Every frame of the clip with its boxes, title and names; all of one size."""
    pictures = []
    for i in range(len(look.frames)):
        tile = _tile(look.frames[i], look.size, look.loaded, frame_label(look, i))
        width = max(tile.shape[1], _TILE_WIDTH)
        parts = (*_head(look, width), tile, *_legend(look, width, annotated=False))
        pictures.append(np.concatenate([_pad(part, width) for part in parts], axis=0))
    return pictures


def spread_around(middle: int, length: int, number: int) -> list[int]:
    """`number` of `length` frames, evenly spread, with `middle` among them."""
    if number >= length:
        return list(range(length))
    chosen = {round(i) for i in np.linspace(0, length - 1, max(number, 1))} if number > 1 else set()
    if middle not in chosen:
        if chosen:
            chosen.discard(min(chosen, key=lambda i: abs(i - middle)))
        chosen.add(middle)
    return sorted(chosen)


def frame_label(look: Look, i: int) -> str:
    """`frame 12 of 32, +0.24 s`."""
    when = "keyframe" if i == look.middle else ""
    if look.offsets is not None and not when:
        when = f"{look.offsets[i]:+.2f} s"
    return f"frame {i + 1} of {len(look.frames)}" + (f", {when}" if when else "")


def _tile(picture: np.ndarray, size: tuple[int, int], boxes: Boxed, label: str) -> np.ndarray:
    """A picture in the size of a tile, with its boxes and a line above; what is padding is hatched."""
    zoom = min(_TILE_WIDTH / picture.shape[1], _TILE_HEIGHT / picture.shape[0])
    width, height = max(round(picture.shape[1] * zoom), 1), max(round(picture.shape[0] * zoom), 1)
    canvas = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    canvas = _hatch(canvas, round(size[0] * zoom), round(size[1] * zoom))
    for xyxy in boxes.objects:
        draw_box(canvas, xyxy=_edges(xyxy, zoom), colour=OBJECT, width=2)
    for xyxy in boxes.persons:
        draw_box(canvas, xyxy=_edges(xyxy, zoom), colour=PERSON, width=3 if len(boxes.persons) <= _FEW else 2)
    for xyxy in boxes.regions:
        x1, y1, x2, y2 = (int(v) for v in np.rint(_edges(xyxy, zoom)))
        cv2.rectangle(canvas, (x1, y1), (min(x2, width - 1), min(y2, height - 1)), REGION, 1)
    taken: list[tuple[int, int, int, int]] = []
    for xyxy, tag in zip(boxes.persons, boxes.tags, strict=True):
        draw_tag(canvas, text=tag, xyxy=_edges(xyxy, zoom), colour=PERSON, taken=taken)
    width = max(width, _NARROW)
    return np.concatenate([_lines([(label, _DIM)], width), _pad(canvas, width)], axis=0)


def _edges(xyxy: np.ndarray, zoom: float) -> np.ndarray:
    """Corners in the enlarged picture: a pixel reaches from its number to the next one."""
    return np.array([xyxy[0] * zoom, xyxy[1] * zoom, (xyxy[2] + 1) * zoom - 1, (xyxy[3] + 1) * zoom - 1])


def _hatch(canvas: np.ndarray, height: int, width: int) -> np.ndarray:
    """The area beyond height x width in grey with slanting lines."""
    if canvas.shape[0] <= height and canvas.shape[1] <= width:
        return canvas
    y, x = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]]
    beyond = (y >= height) | (x >= width)
    canvas = canvas.copy()
    canvas[beyond] = _PADDING
    canvas[beyond & ((x + y) % 8 < 2)] = _HATCH
    return canvas


def _head(look: Look, width: int) -> list[np.ndarray]:
    return [_lines([(part, _TEXT) for part in wrap_text(drawable(look.title), width=width - 2 * _GAP)], width)]


def _legend(look: Look, width: int, *, annotated: bool = True) -> list[np.ndarray]:
    lines: list[tuple[str, tuple[int, int, int]]] = []

    def say(text: str, colour: tuple[int, int, int]) -> None:
        lines.extend((part, colour) for part in wrap_text(drawable(text), width=width - 2 * _GAP))

    def people(head: str, tags: Sequence[str], names: Sequence[str]) -> None:
        told = [f"{tag} = {name}" for tag, name in zip(tags, names, strict=True)][:_PERSONS_NAMED]
        told += ["..."] if len(names) > _PERSONS_NAMED else []
        say(f"{head}: " + (" | ".join(told) if told else "none"), PERSON)

    same = list(look.annotated.tags) == list(look.loaded.tags) and list(look.annotated_names) == list(look.loaded_names)
    if annotated and not same:
        people("annotated persons", look.annotated.tags, look.annotated_names)
    people("persons" if same or not annotated else "loaded persons", look.loaded.tags, look.loaded_names)
    if len(look.loaded.regions):
        say("thin: region that is pooled", REGION)
    if len(look.loaded.objects) or len(look.annotated.objects):
        say(f"blue: {max(len(look.loaded.objects), len(look.annotated.objects))} objects", OBJECT)
    for remark in look.remarks:
        say(remark, _DIM)
    return [_lines(lines, width)]


def _lines(lines: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """Lines of text below each other, uint8 [h, width, 3]."""
    paper = np.full((len(lines) * _LINE + _GAP, width, 3), _PAPER, np.uint8)
    for row, (text, colour) in enumerate(lines):
        base = _GAP // 2 + row * _LINE + 14
        cv2.putText(paper, text, (_GAP // 2, base), _FONT, _SCALE, colour, 1, cv2.LINE_AA)
    return paper


def _side_by_side(tiles: Sequence[np.ndarray]) -> np.ndarray:
    height = max(len(tile) for tile in tiles)
    parts = []
    for tile in tiles:
        right = _GAP if tile is not tiles[-1] else 0
        parts.append(cv2.copyMakeBorder(tile, 0, height - len(tile), 0, right, cv2.BORDER_CONSTANT, value=_PAPER))
    return np.concatenate(parts, axis=1)


def _pad(part: np.ndarray, width: int) -> np.ndarray:
    return cv2.copyMakeBorder(part, 0, 0, 0, max(width - part.shape[1], 0), cv2.BORDER_CONSTANT, value=_PAPER)
