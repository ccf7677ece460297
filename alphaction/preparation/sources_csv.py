"""Reads CSV annotations: AVA's, and tables with a header line.

AVA CSV has no header: `video_id, timestamp, x1, y1, x2, y2, action_id[, person_id]`; a row of two columns is a moment
without persons. With a header the columns may stand in any order and have other names (`ava_columns`), `frame` may
stand instead of `time`, and `x, y, w, h` instead of the corners. Several actions in a cell are separated by `;` or `|`.
Where `;` or a tab separates the cells, as spreadsheets of many countries write them, `0,5` is a number.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from alphaction.errors import DataError
from alphaction.formats.ava_columns import COLUMNS, header_columns, parse_time
from alphaction.preparation.sources import NO_BOX, NotAnnotations, Record, Source, box_of, number, some

_SECONDS = {*COLUMNS["time"], "seconds", "t"}
_FRAMES = {"frame", "frame_idx", "frame_index", "frame_number", "frame_no", "frame_num"}
_UNCLEAR = {"frame_id"}  # AVA's papers call the second so, most others the frame
_CORNERS = ("x1", "y1", "x2", "y2")
_XYWH = (("x", "left", "bbox_x", "x_min", "xmin", "x1"), ("y", "top", "bbox_y", "y_min", "ymin", "y1"))
_WH = (("w", "width", "bbox_w", "box_w", "bbox_width"), ("h", "height", "bbox_h", "box_h", "bbox_height"))
_ORDER = ("movie", "time", *_CORNERS, "action", "person")
_COMMA = re.compile(r"[+-]?\d*,\d+")  # a number with a decimal comma
_EXPECTED = "expected a header such as video,time,x1,y1,x2,y2,action, or AVA's seven or eight columns without one"


def read_csv(path: Path) -> Source:
    """Reads either form; faulty rows are noted.

    Raises:
        NotAnnotations: a table of something else, such as class names.
        DataError: not a text, or no known columns.
    """
    source = Source(str(path), "AVA CSV")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            _read_rows(file, source, delimiter=max(",;\t", key=first.count))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is neither JSON, nor XML, nor a CSV text in UTF-8 ({error}). Save it as UTF-8 (Excel: "
            "'CSV UTF-8')"
        ) from None
    except csv.Error as error:
        raise DataError(f"{path}: is neither JSON, nor XML, nor a CSV text ({error})") from None
    if not source.records and not source.faults:
        raise DataError(f"{path}: has no rows; {_EXPECTED}")
    if source.records and all(record.box is None for record in source.records):
        raise NotAnnotations("a list of moments without any box (AVA's excluded timestamps look like this)")
    return source


def _read_rows(file: TextIO, source: Source, *, delimiter: str) -> None:
    """Adds all rows of the table, and the faults of those that cannot be used."""
    columns: dict[str, int] = {}
    width = 0
    commas = delimiter != ","
    rows = csv.reader(file, delimiter=delimiter)
    for row in rows:
        where = f"line {rows.line_num}"
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not columns:
            columns, header = _columns(cells, source, commas=commas)
            width = len(cells) if header else len(_ORDER)
            if header:
                continue
        if any(cells[width:]):  # decimal commas, or a name with a comma: the columns have shifted
            source.fault(where, f"more than the {width} cells of the columns", ",".join(cells))
        else:
            _add_row(_with_points(cells, columns, source, where) if commas else cells, columns, source, where)


def _columns(cells: list[str], source: Source, *, commas: bool) -> tuple[dict[str, int], bool]:
    """(place of each column, whether `cells` is a header line); notes in `source` what is told of times and boxes."""
    if len(cells) < 2 or parse_time(_point(cells[1]) if commas else cells[1]) is None:
        return _header(cells, source), True
    if len(cells) not in (2, 7, 8):
        raise DataError(f"{source.path}: the first row has {len(cells)} columns; {_EXPECTED}")
    source.order, source.times, source.times_from = "xyxy", "seconds", "AVA's second column"
    return {key: place for place, key in enumerate(_ORDER)}, False


def _point(cell: str) -> str:
    return cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell


def _with_points(cells: list[str], columns: dict[str, int], source: Source, where: str) -> list[str]:
    """The row with decimal points in its time and box; the first comma is noted for the report."""
    places = {columns[key] for key in ("time", *_CORNERS)}
    points = [_point(cell) if place in places else cell for place, cell in enumerate(cells)]
    told = "numbers with a decimal comma are read as such"
    if points != cells and not any(told in note for note in source.notes):
        written, read = next(pair for pair in zip(cells, points, strict=True) if pair[0] != pair[1])
        source.notes.append(f"{source.path}: {told} (first in {where}: {written} is {read})")
    return points


def _header(cells: list[str], source: Source) -> dict[str, int]:
    names = [cell.casefold() for cell in cells]
    places = header_columns(cells)
    places.pop("time", None)
    for known, kind in ((_SECONDS, "seconds"), (_FRAMES, "frames"), (_UNCLEAR, "")):
        found = next((i for i, name in enumerate(names) if name in known), None)
        if found is not None:
            places["time"] = found
            source.times, source.times_from = kind, f"column {cells[found]!r}"
            source.frame_words = kind != "seconds"
            break
    source.form, source.order = "CSV with a header", "xyxy"
    if not all(key in places for key in _CORNERS):
        sides = [_place(names, known) for known in (*_XYWH, *_WH)]
        found_sides = [side for side in sides if side is not None]
        if len(found_sides) == len(sides):
            places.update(zip(_CORNERS, found_sides, strict=True))
            source.order = "xywh"
    missing = [key for key in _ORDER[:7] if key not in places]
    if len(missing) > 4 or (set(names) & {"id", "label_id", "name", "label_name"} and "movie" in missing):
        raise NotAnnotations(f"its columns are {some(cells, most=12)} (a class list goes with --classes)")
    if missing:
        shown = ", ".join("video" if key == "movie" else key for key in missing)
        raise DataError(f"{source.path}: the header lacks {shown} (it has {', '.join(cells)}); {_EXPECTED}")
    return places


def _place(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _add_row(cells: list[str], columns: dict[str, int], source: Source, where: str) -> None:
    values = [cells[columns[key]] if columns.get(key, len(cells)) < len(cells) else "" for key in _ORDER]
    movie, time, *box, action, person = values
    moment = number(time)
    if not movie or moment is None:
        source.fault(where, "no video or no time", f"video {movie!r}, time {time!r}")
    elif not any(box) and not action:
        source.records.append(Record(where, movie, moment, None, ()))
    elif (corners := box_of(box)) is None:
        source.fault(where, NO_BOX, ",".join(box))
    elif not (actions := tuple(part.strip() for part in re.split(r"[;|]", action) if part.strip())):
        source.fault(where, "box without an action", ",".join(cells))
    else:
        source.records.append(Record(where, movie, moment, corners, actions, person))
