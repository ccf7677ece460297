"""Writes predictions as AVA's CSV rows, `video,second,x1,y1,x2,y2,class,score`, millions of them in a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alphaction.evaluation.files import result_file

UNITS = 100_000  # corners and scores are written with five decimals
_CHUNK_ROWS = 1 << 17


def write_rows(
    path: str | Path,
    *,
    images: Sequence[tuple[str, str]],
    image: np.ndarray,
    corners: np.ndarray,
    box: np.ndarray,
    label: np.ndarray,
    score: np.ndarray,
    class_ids: Sequence[int | str],
) -> None:
    """Writes AVA's submission format, five decimals, lines ending in CR LF; the file appears only when it is whole.

    Shapes: B boxes, R rows.

    Args:
        path: the file.
        images: (video, second as text) of every image.
        image: int [B], index in `images`.
        corners: int [B, 4], x1, y1, x2, y2 in units of 1e-5, 0..100000.
        box: int [R], row in `corners`.
        label: int [R], index in `class_ids`.
        score: int [R], units of 1e-5, 0..100000.
        class_ids: as the annotation files write them.
    """
    number = [f"{units // UNITS}.{units % UNITS:05d}" for units in range(UNITS + 1)]
    heads = [f"{_quoted(movie)},{second}," for movie, second in images]
    prefix = np.array(
        [
            f"{heads[i]}{number[x1]},{number[y1]},{number[x2]},{number[y2]},".encode()
            for i, (x1, y1, x2, y2) in zip(image.tolist(), corners.tolist(), strict=True)
        ],
        dtype=bytes,
    )
    classes = np.array([f"{_quoted(str(class_id))},".encode() for class_id in class_ids], dtype=bytes)
    tails = np.array([f"{text}\r\n".encode() for text in number], dtype=bytes)
    with result_file(path) as file:
        for begin in range(0, len(box), _CHUNK_ROWS):
            part = slice(begin, begin + _CHUNK_ROWS)
            columns = [_byte_matrix(prefix, box[part]), _byte_matrix(classes, label[part])]
            text = np.concatenate([*columns, _byte_matrix(tails, score[part])], axis=1)
            file.write(text[text != 0].tobytes())  # the texts are filled up with zero bytes to one width


def _byte_matrix(texts: np.ndarray, index: np.ndarray) -> np.ndarray:
    return texts.view(np.uint8).reshape(len(texts), -1)[index]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text
