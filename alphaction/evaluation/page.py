"""Pieces of a report that is one HTML file: style, tables, small pictures. It needs no network and no other file."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222;
  background: #fff; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: .5em 0; } td, th { padding: .15em .7em; text-align: right; }
th { border-bottom: 1px solid #999; } td.l, th.l { text-align: left; } tr:nth-child(even) { background: #f5f5f5; }
.bar { height: .8em; display: inline-block; vertical-align: middle; min-width: 1px; }
details { margin: .6em 0; } summary { cursor: pointer; font-weight: 600; } li { overflow-wrap: anywhere; }
figure { display: inline-block; margin: .4em .8em .4em 0; vertical-align: top; width: 400px; max-width: 100%; }
figcaption { font-size: .85em; overflow-wrap: anywhere; } img { display: block; max-width: 100%; }
"""

#: A box as shares of the picture's width and height (x1, y1, x2, y2), None = none; its RGB colour; its width in pixels.
DrawnBox = tuple[Sequence[float] | np.ndarray | None, tuple[int, int, int], int]


def head(title: str, *, style: str = "") -> str:
    """The beginning of a page; `style` is added to the common one."""
    return f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{text(title)}</title><style>{STYLE}{style}</style>"


def text(value: object) -> str:
    """Any text as HTML shows it."""
    return html.escape(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int) -> str:
    """A table of texts and numbers, the first `left` columns aligned to the left."""

    def line(cells: Sequence[object], tag: str) -> str:
        return "".join(f"<{tag}{' class=l' if i < left else ''}>{text(c)}</{tag}>" for i, c in enumerate(cells))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(header, 'th')}</tr>{body}</table>"


def figure(picture: np.ndarray, boxes: Iterable[DrawnBox], *, caption: str, width: int = 400, height: int = 360) -> str:
    """A picture within the page.

    Args:
        picture: uint8 [h, w, 3] RGB.
        boxes: the last one lies on top.
        caption: HTML.
        width, height: the picture is made as large as fits, in pixels.
    """
    data = base64.b64encode(_jpeg(picture, boxes, width=width, height=height)).decode()
    return f'<figure><img src="data:image/jpeg;base64,{data}" alt=""><figcaption>{caption}</figcaption></figure>'


def _jpeg(picture: np.ndarray, boxes: Iterable[DrawnBox], *, width: int, height: int) -> bytes:
    """What lies outside the picture is drawn along its edge."""
    zoom = min(width / picture.shape[1], height / picture.shape[0])
    size = max(round(picture.shape[1] * zoom), 2), max(round(picture.shape[0] * zoom), 2)
    canvas = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    limit = np.array([*size, *size], np.float64)
    for box, colour, thickness in boxes:
        if box is None:
            continue
        x1, y1, x2, y2 = (int(v) for v in np.clip(np.asarray(box) * limit, 1, limit - 2))
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), thickness + 2)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return data.tobytes()
