"""The report of a check as one HTML file: tables, a plot, example pictures. It needs no network and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from alphaction.dataset.video_index import open_source
from alphaction.dataset.video_io import VideoCache, read_frame
from alphaction.errors import UserError
from alphaction.evaluation import page
from alphaction.evaluation.files import result_file
from alphaction.evaluation.page import table as _table
from alphaction.evaluation.page import text as _text
from alphaction.evaluation.pictures import evenly_spread
from alphaction.preparation.check import CheckReport
from alphaction.preparation.check_findings import LEVELS, Finding
from alphaction.preparation.check_split import SplitFacts
from alphaction.preparation.check_text import clock

_WIDTH = 400  # pixels of a picture
_HEIGHT = 360
_ROWS = 500  # findings of a kind in the page
_VIDEOS = 2000
_MOST_PICTURES = 400
_MEANT, _OTHER, _FAULTY = (70, 210, 90), (170, 170, 170), (255, 90, 80)
_COLOURS = ("#3b82c4", "#e08a2e", "#59a14f", "#b07aa1", "#76b7b2", "#9c755f")

_STYLE = """
.plot td { padding: .05em .5em; } .plot td.g { width: 620px; text-align: left; border-left: 1px solid #999; }
.error { color: #b3261e; } .warning { color: #9a6700; } .note { color: #3a5a78; }
.cure { background: #eef4ee; padding: .3em .7em; margin: .4em 0; }
"""


def write_html(report: CheckReport, path: str | Path, *, pictures: int = 2) -> None:
    """Writes the page.

    Args:
        pictures: examples per class and per kind of fault; 0 = none.

    Raises:
        UserError: the file cannot be written.
    """
    cache = VideoCache()
    try:
        text = "\n".join(_page(report, _Camera(report.splits, cache), pictures))
    finally:
        cache.close()
    with result_file(path, text=True) as file:
        file.write(text)


def _page(report: CheckReport, camera: _Camera, pictures: int) -> Iterator[str]:
    title = f"Check of {', '.join(report.names)}"
    yield page.head(title, style=_STYLE)
    counts = {level: report.findings.count(level) for level in LEVELS}
    told = ", ".join(
        f"<span class={level if count else 'none'}>{count} {level}{'' if count == 1 else 's'}</span>"
        for level, count in counts.items()
    )
    verdict = "training will fail or be wrong" if counts["error"] else "fit to train on"
    yield f"<h1>{_text(title)}</h1><p>{told}: {verdict}.</p>"
    yield "<h2>Splits</h2>" + _splits(report)
    yield "<h2>Findings</h2>"
    yield from _findings(report, camera, pictures)
    yield "<h2>Persons per class</h2>" + _plot(report)
    if report.coverage:
        yield "<h2>Detected persons</h2>" + _coverage(report)
    if pictures:
        yield "<h2>Examples of every class</h2>"
        yield from _examples(report, camera, pictures)
    yield "<h2>Videos</h2>" + _videos(report)


def _splits(report: CheckReport) -> str:
    head = ("split", "annotations", "videos", "length", "keyframes", "usable", "persons", "usable", "labels")
    rows = [
        (
            totals["name"],
            totals["annotations"],
            totals["videos"],
            clock(totals["seconds"]),
            totals["keyframes"],
            totals["usable_keyframes"],
            totals["persons"],
            totals["usable_persons"],
            totals["labels"],
        )
        for totals in report.summary()
    ]
    return _table(head, rows, left=2)


def _findings(report: CheckReport, camera: _Camera, pictures: int) -> Iterator[str]:
    for code, kind, found in report.findings.groups():
        opened = " open" if kind.level == "error" or len(found) <= 20 else ""
        head = f"<span class={kind.level}>{kind.level}</span> {_text(kind.title)}: {len(found)} <small>[{code}]</small>"
        items = "".join(f"<li>{_text(str(finding))}</li>" for finding in found[:_ROWS])
        more = f"<p>... {len(found) - _ROWS} more: see --json</p>" if len(found) > _ROWS else ""
        yield f"<details{opened}><summary>{head}</summary><p class=cure>{_text(kind.cure)}</p><ul>{items}</ul>{more}"
        shown = [finding for finding in found if finding.time is not None]
        for i in evenly_spread(np.arange(len(shown)), pictures).tolist():
            yield camera.of_finding(shown[i])
        yield "</details>"


def _plot(report: CheckReport) -> str:
    """Bars per class and split; the axis is that of the largest class."""
    classes = report.classes()
    most = max((count for _, _, counts in classes for count in counts), default=0) or 1
    names = [split.name for split in report.splits]
    legend = " ".join(
        f'<span class=bar style="width:.8em;background:{_colour(i)}"></span> {_text(name)}'
        for i, name in enumerate(names)
    )
    rows = []
    for class_id, name, counts in classes:
        for i, count in enumerate(counts):
            label = (
                f"<td class=l>{_text(class_id)}</td><td class=l>{_text(name)}</td>" if not i else "<td></td><td></td>"
            )
            bar = f'<span class=bar style="width:{600 * count / most:.0f}px;background:{_colour(i)}"></span>'
            rows.append(f"<tr>{label}<td class=g>{bar if count else ''}</td><td>{count}</td></tr>")
    return f"<p>{legend}</p><table class=plot>{''.join(rows)}</table>"


def _coverage(report: CheckReport) -> str:
    head = ("split", "file", "score from", "boxes", "recall at 0.5", "boxes of all scores", "recall of all")
    rows = [
        (c.split, c.source, f"{c.threshold:g}", c.boxes, f"{c.recall:.3f}", c.boxes_all, f"{c.recall_all:.3f}")
        for c in report.coverage
    ]
    return _table(head, rows, left=2)


def _examples(report: CheckReport, camera: _Camera, number: int) -> Iterator[str]:
    for split in report.splits:
        usable = split.usable_persons()
        for column, name in enumerate(split.raw.classes.names):
            persons = np.flatnonzero(usable & split.raw.labels[:, column])
            if len(persons):
                yield f"<h3>{_text(name)} <small>{_text(split.name)}, {len(persons)} persons</small></h3>"
                for person in evenly_spread(persons, number).tolist():
                    yield camera.of_person(split, person)


def _videos(report: CheckReport) -> str:
    rows = sorted(report.videos(), key=lambda row: row.state == "ok")
    head = ("split", "video", "seconds", "fps", "size", "keyframes", "persons", "state")
    cells = [
        (
            r.split,
            r.video,
            f"{r.seconds:.2f}",
            f"{r.fps:.5g}",
            f"{r.width} x {r.height}",
            r.keyframes,
            r.persons,
            r.state,
        )
        for r in rows[:_VIDEOS]
    ]
    more = f"<p>... {len(rows) - _VIDEOS} more</p>" if len(rows) > _VIDEOS else ""
    return _table(head, cells, left=2) + more


class _Camera:
    """Takes the pictures of the page, a limited number."""

    def __init__(self, splits: Sequence[SplitFacts], cache: VideoCache) -> None:
        self._splits = {split.name: split for split in splits}
        self._cache = cache
        self._left = _MOST_PICTURES

    def of_person(self, split: SplitFacts, person: int) -> str:
        """The keyframe of a person with its box in green and those of the others in grey."""
        raw = split.raw
        keyframe = int(raw.keyframe[person])
        others = range(*split.persons_of(keyframe).indices(len(raw.keyframe)))
        boxes = [(split.fraction_box(other), _OTHER) for other in others if other != person]
        boxes.append((split.fraction_box(person), _MEANT))
        actions = ", ".join(raw.classes.names[k] for k in np.flatnonzero(raw.labels[person]))
        caption = f"{raw.name_keyframe(keyframe)}, {split.row_of_person(person)}: {actions}"
        return self._figure(split, int(raw.movie[keyframe]), float(raw.time[keyframe]), boxes, caption)

    def of_finding(self, finding: Finding) -> str:
        """The keyframe of a fault with its box in red."""
        split = self._splits.get(finding.split)
        if split is None or finding.time is None or finding.movie not in split.raw.movies:
            return ""
        movie = split.raw.movies.index(finding.movie)
        return self._figure(split, movie, finding.time, [(finding.box, _FAULTY)], f"{finding.row}: {finding.message}")

    def _figure(
        self,
        split: SplitFacts,
        movie: int,
        time: float,
        boxes: Iterable[tuple[tuple[float, ...] | None, tuple[int, int, int]]],
        caption: str,
    ) -> str:
        entry = split.files[movie]
        if self._left <= 0 or entry.problem or not entry.path:
            return ""
        try:
            picture = read_frame(open_source(entry.path), time, frame_rate=25.0, cache=self._cache)
        except (UserError, OSError):
            return ""
        self._left -= 1
        drawn = [(box, colour, 2) for box, colour in boxes]
        return page.figure(picture, drawn, caption=_text(caption), width=_WIDTH, height=_HEIGHT)


def _colour(split: int) -> str:
    return _COLOURS[split % len(_COLOURS)]
