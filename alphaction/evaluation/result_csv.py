"""Writes predictions as AVA's CSV rows, `video,second,x1,y1,x2,y2,class,score`, millions of them in a second or two."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
    quoted = {movie: _quoted(movie) for movie in {movie for movie, _ in images}}
    heads = [f"{quoted[movie]},{second}," for movie, second in images]
    texts = [
        f"{heads[i]}{number[x1]},{number[y1]},{number[x2]},{number[y2]},".encode()
        for i, (x1, y1, x2, y2) in zip(image.tolist(), corners.tolist(), strict=True)
    ]
    width = np.fromiter(map(len, texts), np.int64, len(texts))
    prefix, tails = np.array(texts, dtype=bytes), np.array([f"{text}\r\n".encode() for text in number], dtype=bytes)
    classes = [f"{_quoted(str(class_id))},".encode() for class_id in class_ids]
    del texts, heads
    with result_file(path) as file:
        if _is_dense(box, label, len(classes)):
            owner, by_box = box[:: len(classes)], score.reshape(-1, len(classes))
            for part in _equal_runs(width[owner], _CHUNK_ROWS // len(classes) + 1):
                lines = _byte_matrix(prefix, owner[part])[:, : width[owner[part.start]]]
                file.write(_dense_lines(lines, classes, _byte_matrix(tails, by_box[part])))
            return
        ends = np.array(classes, dtype=bytes)
        for begin in range(0, len(box), _CHUNK_ROWS):
            part = slice(begin, begin + _CHUNK_ROWS)
            columns = [_byte_matrix(prefix, box[part]), _byte_matrix(ends, label[part])]
            text = np.concatenate([*columns, _byte_matrix(tails, score[part])], axis=1)
            file.write(text[text != 0].tobytes())  # the texts are filled up with zero bytes to one width


def _is_dense(box: np.ndarray, label: np.ndarray, num_classes: int) -> bool:
    """Whether each box has all classes in their order."""
    if not len(box) or len(box) % num_classes:
        return False
    by_box = box.reshape(-1, num_classes)
    return bool(
        (label.reshape(-1, num_classes) == np.arange(num_classes, dtype=label.dtype)).all()
        and (by_box == by_box[:, :1]).all()
    )


def _equal_runs(width: np.ndarray, most: int) -> Iterator[slice]:
    """Runs of equal numbers, `most` long at most."""
    changes = np.flatnonzero(width[1:] != width[:-1]) + 1
    for begin, end in itertools.pairwise([0, *changes.tolist(), len(width)]):
        for start in range(begin, end, most):
            yield slice(start, min(start + most, end))


def _dense_lines(prefix: np.ndarray, classes: Sequence[bytes], tails: np.ndarray) -> np.ndarray:
    """The lines of boxes with all classes, in place: no byte is looked at twice.

    Args:
        prefix: uint8 [b, w], the beginning of each box's lines.
        classes: the K texts behind it.
        tails: uint8 [b, K, t], the ends of the lines.

    Returns:
        uint8 [b, bytes of a box].
    """
    (num_boxes, w), (_, _, t) = prefix.shape, tails.shape
    total = sum(w + len(text) + t for text in classes)
    out = np.empty((num_boxes, total), np.uint8)
    begin = k = 0
    for middle, group in itertools.groupby(classes, key=len):  # lines of one length lie at equal distances
        texts = list(group)
        n, line = len(texts), w + middle + t
        view = np.ndarray((num_boxes, n, line), np.uint8, buffer=out, offset=begin, strides=(total, line, 1))
        view[:, :, :w] = prefix[:, None]
        view[:, :, w : w + middle] = np.frombuffer(b"".join(texts), np.uint8).reshape(n, middle)
        view[:, :, w + middle :] = tails[:, k : k + n]
        begin, k = begin + n * line, k + n
    return out


def _byte_matrix(texts: np.ndarray, index: np.ndarray) -> np.ndarray:
    return texts.view(np.uint8).reshape(len(texts), -1)[index]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text
