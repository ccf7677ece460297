"""Keyframes with true and predicted boxes, to look at.

Boxes carry a number; what belongs to it stands in a panel at the right, so that text covers neither the picture nor
other text, however many persons there are and however long the names.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from alphaction.errors import UserError
from alphaction.evaluation.ava import second_text
from alphaction.evaluation.files import result_file
from alphaction.structures import Annotations, Predictions

logger = logging.getLogger(__name__)

_PICTURE_SCORE = 0.3  # actions below it are not drawn, but for the best one
_PICTURE_ACTIONS = 5  # at most so many per person

# Colours are RGB.
_TRUE = (70, 210, 90)
_PREDICTED = (255, 150, 30)
_WRONG = (255, 105, 97)
_TEXT = (235, 235, 235)
_DIM = (150, 150, 150)
_PANEL = (28, 30, 34)
_DARK = (0, 0, 0)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SCALE = 0.46
_LINE = 20  # pixels from one line of text to the next
_MARGIN = 12
_PANEL_WIDTH = 380
_MIN_WIDTH, _MAX_WIDTH, _MAX_HEIGHT = 640, 1280, 1080
_TALL_WIDTH = 960  # up to this width a picture grows when its panel is taller


@dataclass(frozen=True)
class Person:
    """A true or predicted person of a keyframe.

    Attributes:
        xyxy: four numbers, corners in pixels of the picture.
        names: true actions, or predicted ones with the best first.
        scores: of each predicted action; None for a true person.
    """

    xyxy: np.ndarray
    names: Sequence[str]
    scores: Sequence[float] | None = None


def draw_keyframe(
    picture: np.ndarray, *, true: Sequence[Person], predicted: Sequence[Person], title: str
) -> np.ndarray:
    """The keyframe with boxes and the panel.

    Args:
        picture: uint8 [h, w, 3] RGB.
        true: annotated persons.
        predicted: predicted persons; one that overlaps a true person by half or more shares its number.
        title: line above the panel, such as video and second.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    pairs = _pair(true, predicted)
    panel = _panel(pairs, title)
    zoom = max(1.0, _MIN_WIDTH / picture.shape[1], min(len(panel) / picture.shape[0], _TALL_WIDTH / picture.shape[1]))
    zoom = min(zoom, _MAX_WIDTH / picture.shape[1], _MAX_HEIGHT / picture.shape[0])
    size = (round(picture.shape[1] * zoom), round(picture.shape[0] * zoom))
    canvas = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    for truth, _ in pairs:  # true boxes are wider, so both stay visible where they coincide
        if truth is not None:
            draw_box(canvas, xyxy=truth.xyxy * zoom, colour=_TRUE, width=8)
    for _, guess in pairs:
        if guess is not None:
            draw_box(canvas, xyxy=guess.xyxy * zoom, colour=_PREDICTED, width=2)
    taken: list[tuple[int, int, int, int]] = []
    for i, (truth, guess) in enumerate(pairs):
        person = truth or guess
        if person is None:
            raise ValueError("pairs: got one without a person")
        colour = _TRUE if truth is not None else _PREDICTED
        draw_tag(canvas, text=str(i + 1), xyxy=person.xyxy * zoom, colour=colour, taken=taken)
    height = max(len(canvas), len(panel))
    canvas = _extend(canvas, height)
    return np.concatenate([canvas, _extend(panel, height)], axis=1)


def draw_pictures(
    predictions: Predictions,
    *,
    annotations: Annotations,
    keyframe_image: Callable[[int], np.ndarray],
    folder: Path,
    number: int,
) -> None:
    """Draws keyframes spread over the set, those with true boxes if there are any.

    Args:
        predictions: of the whole set.
        annotations: of the same set.
        keyframe_image: position of a keyframe -> uint8 [h, w, 3] RGB; a UserError skips it.
        folder: gets `01_<video>_<second>.jpg` and so on, in place of such pictures of an earlier test.
        number: at most so many.
    """
    if folder.is_dir():
        for old in folder.iterdir():
            if re.fullmatch(r"\d{2,}_.*\.jpg", old.name):
                old.unlink()
    candidates = np.flatnonzero(np.diff(annotations.boxes.first) > 0)
    if not len(candidates):
        candidates = np.unique(predictions.keyframe)
    unreadable = 0
    for i, keyframe in enumerate(evenly_spread(candidates, number).tolist()):
        key = annotations.key(keyframe)
        try:
            picture = np.ascontiguousarray(keyframe_image(keyframe))
        except UserError as error:
            unreadable += 1
            logger.warning("No picture of %s at second %g: %s", key.movie, key.time, error)
            continue
        true, predicted = _persons(predictions, annotations, keyframe, picture.shape[:2])
        drawn = draw_keyframe(picture, true=true, predicted=predicted, title=f"{key.movie}, second {key.time:g}")
        name = re.sub(r"[^\w.+-]+", "_", f"{i + 1:02d}_{key.movie}_{second_text(key.time)}")
        write_picture(folder / f"{name}.jpg", drawn)
    if unreadable:
        logger.warning("%d of %d keyframes could not be drawn", unreadable, min(number, len(candidates)))


def _persons(
    predictions: Predictions, annotations: Annotations, keyframe: int, picture_size: tuple[int, int]
) -> tuple[list[Person], list[Person]]:
    """True and predicted persons of a keyframe, boxes in pixels of the picture."""
    names = annotations.classes.names

    def scale(xyxy: np.ndarray, size: np.ndarray) -> np.ndarray:
        return xyxy * np.tile((np.asarray(picture_size) / size)[::-1], 2)

    rows = annotations.boxes.rows(keyframe)
    true = [
        Person(scale(xyxy, annotations.size[keyframe]), [names[k] for k in np.flatnonzero(labels)])
        for xyxy, labels in zip(annotations.boxes.xyxy[rows], annotations.labels[rows], strict=True)
    ]
    predicted = []
    for row in range(*np.searchsorted(predictions.keyframe, [keyframe, keyframe + 1])):
        scores = predictions.scores[row]
        best = np.argsort(-scores, kind="stable")[:_PICTURE_ACTIONS]
        best = best[: max(1, int((scores[best] >= _PICTURE_SCORE).sum()))]
        box = scale(predictions.boxes[row], predictions.clip_size[row])
        predicted.append(Person(box, [names[k] for k in best], scores[best].tolist()))
    return true, predicted


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes uint8 [h, w, 3] RGB as the kind of file that the name's ending says.

    Raises:
        UserError: OpenCV does not know the ending, or the file cannot be written.
    """
    path = Path(path)
    try:
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise UserError(f"{path}: OpenCV cannot write pictures as {path.suffix!r}") from error
    with result_file(path) as file:
        file.write(data.tobytes())


def drawable(text: str) -> str:
    """OpenCV's fonts have ASCII only: accents are dropped, other characters become '?'."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def evenly_spread(candidates: np.ndarray, number: int) -> np.ndarray:
    """At most `number` of the candidates, evenly spread, in order."""
    if number <= 0 or len(candidates) == 0:
        return candidates[:0]
    if number >= len(candidates):
        return candidates
    return candidates[((np.arange(number) + 0.5) * len(candidates) / number).astype(np.int64)]


def _pair(true: Sequence[Person], predicted: Sequence[Person]) -> list[tuple[Person | None, Person | None]]:
    """True persons, each with the prediction that overlaps it best (by half or more), then the other predictions."""
    overlap = np.array([[_iou(a.xyxy, b.xyxy) for b in predicted] for a in true]).reshape(len(true), len(predicted))
    partner: dict[int, int] = {}
    for _ in range(min(overlap.shape)):
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        if overlap[i, j] < 0.5:
            break
        partner[int(i)] = int(j)
        overlap[i, :] = overlap[:, j] = -1
    pairs: list[tuple[Person | None, Person | None]] = [
        (truth, predicted[partner[i]] if i in partner else None) for i, truth in enumerate(true)
    ]
    alone = [j for j in range(len(predicted)) if j not in partner.values()]
    return pairs + [(None, predicted[j]) for j in alone]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1
    common = max(width, 0) * max(height, 0)
    union = np.prod(a[2:] - a[:2] + 1) + np.prod(b[2:] - b[:2] + 1) - common
    return float(common / union) if union > 0 else 0.0


def draw_box(canvas: np.ndarray, *, xyxy: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    """A box with a dark rim; where it leaves the picture it is drawn along the edge."""
    x1, y1, x2, y2 = (int(v) for v in np.rint(xyxy))
    limit_x, limit_y = canvas.shape[1] - 1, canvas.shape[0] - 1
    corner = (min(max(x1, 0), limit_x), min(max(y1, 0), limit_y))
    opposite = (min(max(x2, 0), limit_x), min(max(y2, 0), limit_y))
    cv2.rectangle(canvas, corner, opposite, _DARK, width + 2, cv2.LINE_AA)
    cv2.rectangle(canvas, corner, opposite, colour, width, cv2.LINE_AA)


def draw_tag(
    canvas: np.ndarray,
    *,
    text: str,
    xyxy: np.ndarray,
    colour: tuple[int, int, int],
    taken: list[tuple[int, int, int, int]],
) -> None:
    """A filled label at a corner of the box, where no other label is if there is such a place."""
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.6, 2)
    w, h = width + 10, height + 10
    limit_x, limit_y = canvas.shape[1] - w, canvas.shape[0] - h
    x1, y1, x2, y2 = (int(v) for v in np.rint(xyxy))
    corners = [(x1, y1), (x2 - w, y1), (x1, y2 - h), (x2 - w, y2 - h), (x1, y1 - h), (x2 - w, y1 - h), (x1, y2)]
    corners += [(x1, y) for y in range(y1 + h, y2 - h, h)]
    places = [(min(max(x, 0), limit_x), min(max(y, 0), limit_y)) for x, y in corners]
    free = [
        (x, y)
        for x, y in places
        if not any(x < tx + tw and tx < x + w and y < ty + th and ty < y + h for tx, ty, tw, th in taken)
    ]
    x, y = (free or places)[0]
    taken.append((x, y, w, h))
    cv2.rectangle(canvas, (x, y), (x + w - 1, y + h - 1), colour, -1)
    cv2.putText(canvas, text, (x + 5, y + h - 6), _FONT, 0.6, _DARK, 2, cv2.LINE_AA)


@dataclass(frozen=True)
class _Text:
    """A piece of a panel's line: its place from the left in pixels, and its colour."""

    x: int
    text: str
    colour: tuple[int, int, int]


_ITEMS = 104  # pixels from the left at which actions are listed


def _panel(pairs: Sequence[tuple[Person | None, Person | None]], title: str) -> np.ndarray:
    """uint8 [h, panel width, 3]: title, legend, then the actions of each numbered person."""
    lines: list[list[_Text]] = [
        [_Text(0, part, _TEXT)] for part in wrap_text(drawable(title), width=_PANEL_WIDTH - 2 * _MARGIN)
    ]
    lines += [[], [_Text(26, "true box and action", _TRUE)], [_Text(26, "predicted box and true action", _PREDICTED)]]
    legend = len(lines) - 2
    lines += [[_Text(26, "predicted action that is not true", _WRONG)], []]
    for i, (truth, guess) in enumerate(pairs):
        names = [] if truth is None else list(truth.names)
        actual = [(name, _TRUE) for name in names] or [("no action", _DIM)]
        person = _listing("true", actual if truth is not None else [("no true box", _DIM)])
        said = [("no predicted box", _DIM)]
        if guess is not None:
            scored = zip(guess.names, guess.scores or [], strict=True)
            said = [(f"{score:.2f} {name}", _PREDICTED if name in names else _WRONG) for name, score in scored]
        person += _listing("predicted", said)
        person[0].insert(0, _Text(0, str(i + 1), _TEXT))
        lines += [*person, []]
    if not pairs:
        lines.append([_Text(0, "no true and no predicted box", _DIM)])
    panel = np.full((len(lines) * _LINE + 2 * _MARGIN, _PANEL_WIDTH, 3), _PANEL, np.uint8)
    for row, pieces in enumerate(lines):
        base = _MARGIN + row * _LINE + 14
        for piece in pieces:
            cv2.putText(panel, piece.text, (_MARGIN + piece.x, base), _FONT, _SCALE, piece.colour, 1, cv2.LINE_AA)
    for row, colour, width in ((legend, _TRUE, 5), (legend + 1, _PREDICTED, 2)):
        top = _MARGIN + row * _LINE + 3
        cv2.rectangle(panel, (_MARGIN + 3, top), (_MARGIN + 15, top + 10), colour, width // 2 + 1, cv2.LINE_AA)
    return panel


def _listing(head: str, items: Sequence[tuple[str, tuple[int, int, int]]]) -> list[list[_Text]]:
    """A heading and wrapped items below each other."""
    lines = [
        [_Text(_ITEMS, part, colour)]
        for text, colour in items
        for part in wrap_text(drawable(text), width=_PANEL_WIDTH - 2 * _MARGIN - _ITEMS)
    ]
    lines[0].insert(0, _Text(22, head, _DIM))
    return lines


def wrap_text(text: str, *, width: int) -> list[str]:
    """Lines no wider than `width` pixels; a word that is too long is cut."""

    def fits(line: str) -> bool:
        return cv2.getTextSize(line, _FONT, _SCALE, 1)[0][0] <= width

    lines = [""]
    for word in text.split():
        while not fits(word):
            cut = next(n for n in range(len(word), 0, -1) if fits(word[:n]))
            lines.append(word[:cut])
            word = word[cut:]
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
        else:
            lines.append(word)
    return [line for line in lines if line] or [""]


def _extend(picture: np.ndarray, height: int) -> np.ndarray:
    return cv2.copyMakeBorder(picture, 0, height - len(picture), 0, 0, cv2.BORDER_CONSTANT, value=_PANEL)
