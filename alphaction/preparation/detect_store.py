"""The boxes found so far, kept in a side file so that a stopped run goes on, and the box file that comes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from alphaction.preparation.detect_frames import Frame
from alphaction.utils.atomic import atomic_write

Row = dict[str, object]  # {"category_id", "bbox": [x, y, width, height], "score"}


class SideFile:
    """Boxes of the pictures done so far: a line of settings, then a JSON line per picture.

    Attributes:
        done: boxes by `key` of the picture.
        remark: what was found of an earlier run, for the user.
    """

    def __init__(self, output: Path, settings: Mapping[str, object]) -> None:
        """Takes up an earlier run with the same settings; of one with other settings nothing is kept."""
        self.path = output.with_name(f".{output.name}.partial")
        self.done: dict[str, list[Row]] = {}
        self.remark = ""
        settings = json.loads(json.dumps(settings))
        lines = self._read()
        if lines and lines[0] == {"settings": settings}:
            self.done = {line["picture"]: line["boxes"] for line in lines[1:]}
            self.remark = f"Going on with {len(self.done)} pictures of an earlier run ({self.path})"
        elif lines:
            old = lines[0].get("settings") or {}
            differs = [
                f"{key} {old.get(key)!r}, now {value!r}" for key, value in settings.items() if old.get(key) != value
            ]
            self.remark = f"Starting anew: an earlier run had other settings ({'; '.join(differs)})"
        self._file: IO[str] = self.path.open("w", encoding="utf-8", newline="\n")
        # Written anew, which leaves out the line that a killed run did not finish.
        self._write({"settings": settings})
        for picture, boxes in self.done.items():
            self._write({"picture": picture, "boxes": boxes})
        self._file.flush()

    @staticmethod
    def key(frame: Frame) -> str:
        """What a picture's boxes depend on."""
        return json.dumps([frame.image_id, frame.path, frame.time, frame.size])

    def add(self, boxes: Mapping[str, list[Row]]) -> None:
        """Keeps the boxes of a batch of pictures."""
        for picture, rows in boxes.items():
            self.done[picture] = rows
            self._write({"picture": picture, "boxes": rows})
        self._file.flush()

    def close(self, *, remove: bool = False) -> None:
        self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)

    def _write(self, line: dict) -> None:
        self._file.write(json.dumps(line) + "\n")

    def _read(self) -> list[dict]:
        """The lines of an earlier run, up to the first that is not whole."""
        lines: list[dict] = []
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        for line in text.splitlines():
            try:
                content = json.loads(line)
            except ValueError:
                break
            if not isinstance(content, dict) or not (
                content.keys() >= {"settings"} or {"picture", "boxes"} <= content.keys()
            ):
                break
            lines.append(content)
        return lines


def write_boxes(path: Path, frames: Sequence[Frame], boxes: Sequence[list[Row] | None], *, by_name: bool) -> None:
    """Writes the box file, atomically.

    Args:
        boxes: of each picture; None where it could not be read.
        by_name: {"video/0001.jpg": [boxes]} instead of a list of boxes with `image_id`.
    """
    pairs = [(frame, rows) for frame, rows in zip(frames, boxes, strict=True) if rows is not None]
    if by_name:
        content: object = {frame.image_id: rows for frame, rows in pairs}
    else:
        content = [{"image_id": frame.image_id, **row} for frame, rows in pairs for row in rows]
    with atomic_write(path, text=True) as file:
        json.dump(content, file)
