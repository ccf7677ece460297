"""The report of a check as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from alphaction.preparation.check import CheckReport
from alphaction.preparation.check_findings import LEVELS

WIDTH = 118
VIDEOS = 30  # lines of the table of videos


def report_text(report: CheckReport, *, rows: int = 10, videos: int = VIDEOS) -> str:
    """Tables, findings with their rows and cures, and one line that sums up.

    Args:
        rows: findings of a kind that are listed; 0 = all.
        videos: videos that are listed, those with a fault first; 0 = all.
    """
    lines = [
        *_section("Splits", _split_table(report)),
        *_section("Videos", _video_table(report, videos)),
        *_section("Persons per class", _class_table(report)),
        *_section("Detected persons against annotated ones (overlap 0.5)", _coverage_table(report)),
        *_findings(report, rows),
    ]
    counts = [(level, report.findings.count(level)) for level in LEVELS]
    told = ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts)
    verdict = "training will fail or be wrong" if counts[0][1] else "fit to train on"
    return "\n".join([*lines, f"{', '.join(report.names)}: {told}: {verdict}"])


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> list[str]:
    """Aligned columns; the first `left` to the left, the others to the right. Columns that are empty are left out."""
    cells = [[str(cell) for cell in row] for row in rows]
    used = [i for i in range(len(head)) if not cells or any(row[i] for row in cells)]
    cells = [[row[i] for i in used] for row in [list(head), *cells]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(used))]
    return [
        "  ".join(
            cell.ljust(width) if used[i] < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines), ""] if lines else []


def _split_table(report: CheckReport) -> list[str]:
    head = ("split", "videos", "length", "keyframes", "usable", "no person", "persons", "usable", "labels")
    keys = ("videos", "keyframes", "usable_keyframes", "keyframes_without_persons", "persons", "usable_persons")
    rows = []
    for totals in report.summary():
        values = [totals[key] for key in keys]
        rows.append([totals["name"], values[0], clock(totals["seconds"]), *values[1:], totals["labels"]])
    return table(head, rows)


def _video_table(report: CheckReport, limit: int) -> list[str]:
    rows = report.videos()
    shown = rows
    if 0 < limit < len(rows):
        shown = sorted(rows, key=lambda row: row.state == "ok")[:limit]
    head = ("split", "video", "length", "fps", "size", "keyframes", "persons", "state")
    lines = table(
        head,
        [
            (
                row.split,
                row.video,
                f"{row.seconds:.2f} s" if row.seconds else "-",
                f"{row.fps:.5g}" if row.fps else "-",
                f"{row.width} x {row.height}" if row.width else "-",
                row.keyframes,
                row.persons,
                row.state,
            )
            for row in shown
        ],
        left=2,
    )
    return lines + ([f"... {len(rows) - len(shown)} more (--videos 0 lists all)"] if len(shown) < len(rows) else [])


def _class_table(report: CheckReport) -> list[str]:
    names = [split.name for split in report.splits]
    rows = [(class_id, name, *counts) for class_id, name, counts in report.classes()]
    return table(("id", "class", *names), rows, left=2) if rows else []


def _coverage_table(report: CheckReport) -> list[str]:
    if not report.coverage:
        return []
    head = ("split", "file", "score from", "boxes", "recall", "all boxes", "recall of all")
    return table(
        head,
        [
            (row.split, row.source, f"{row.threshold:g}", row.boxes, f"{row.recall:.3f}", row.boxes_all, recall)
            for row in report.coverage
            for recall in [f"{row.recall_all:.3f}"]
        ],
        left=2,
    )


def _findings(report: CheckReport, rows: int) -> Iterator[str]:
    for code, kind, found in report.findings.groups():
        yield f"{kind.level.upper()} [{code}] {kind.title}: {len(found)}"
        shown = found[:rows] if rows else found
        for finding in shown:
            yield from textwrap.wrap(
                str(finding),
                WIDTH,
                initial_indent="  ",
                subsequent_indent="      ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        if len(shown) < len(found):
            yield f"  ... {len(found) - len(shown)} more (--rows 0 lists all)"
        yield from textwrap.wrap(f"-> {kind.cure}", WIDTH, initial_indent="  ", subsequent_indent="     ")
        yield ""


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
