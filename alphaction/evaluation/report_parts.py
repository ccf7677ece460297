"""The longer parts of `report.html`: curves, confusion, pictures of mistakes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from alphaction.errors import UserError
from alphaction.evaluation import page
from alphaction.evaluation.findings import Evidence, Findings
from alphaction.evaluation.mistakes import Mistake
from alphaction.evaluation.page import text
from alphaction.evaluation.plots import curve_svg
from alphaction.evaluation.report import EvalResult, number

logger = logging.getLogger(__name__)

_MATRIX = 25  # classes of a group up to which a matrix is legible; of larger groups only pairs are listed
_PAIRS = 30  # of classes that are listed
_TRUE, _OURS, _FALSE = (70, 210, 90), (255, 150, 30), (255, 80, 70)


def curve_plots(result: EvalResult, findings: Findings) -> str:
    """A small plot for each class with true boxes, the best AP first."""
    upper = result.upper.curves if result.upper is not None else ()
    plots = []
    for k in np.argsort(-np.nan_to_num(result.ap), kind="stable").tolist():
        curve = findings.curves[k]
        if curve is not None:
            told = f"{text(result.class_names[k])} <small>AP {number(float(result.ap[k]))}</small>"
            plots.append(f"<div>{curve_svg(curve, upper=upper[k] if upper else None)}{told}</div>")
    if not plots:
        return "<p>No class has true boxes.</p>"
    dashed = " Dashed: with the true boxes." if upper else ""
    return (
        "<p class=dim>From left to right the threshold on the score falls. A curve that ends early: the other true "
        "boxes have no detection (no box, or a score below TEST.ACTION_THRESH). One that starts low: false "
        f"detections have the highest scores.{dashed}</p><div class=curves>{''.join(plots)}</div>"
    )


def confusion_tables(result: EvalResult, evidence: Evidence, findings: Findings) -> Iterator[str]:
    """A matrix per group of few classes, then the most frequent pairs."""
    confusion, names = findings.confusion, result.class_names
    right = int(np.trace(confusion.taken))
    told, lost = int(confusion.taken.sum()), int(confusion.no_box.sum())
    within = " of its group" if len(confusion.groups) > 1 else ""
    yield (
        f"<p>{told + lost} true classes of {findings.num_persons} persons: {right} are told right, {told - right} "
        f"taken for another class, {lost} have no box.</p><p class=dim>Each true class of a person is compared, in the "
        f"box that overlaps the person best (by {result.iou_threshold:g} or more), with the classes{within} that the "
        "person does not have. It is right if none of these scores higher; else it was taken for the one that scores "
        "highest. Several true classes of a person do not compete with each other.</p>"
    )
    group_names = [*evidence.groups, "other classes"]
    for group, name in zip(confusion.groups, group_names, strict=False):
        seen = group[(confusion.taken[group].sum(axis=1) + confusion.no_box[group]) > 0]
        if 1 < len(group) <= _MATRIX and len(seen):
            if len(confusion.groups) > 1:
                yield f"<h3>{text(name)}</h3>"
            yield _matrix(findings, seen, group, names)
    pairs = confusion.pairs()
    total = confusion.taken.sum(axis=1) + confusion.no_box
    rows = [
        (names[true], names[other], count, f"{100 * count / total[true]:.0f} %", int(total[true]))
        for true, other, count in pairs[:_PAIRS]
    ]
    if rows:
        more = f"<p class=dim>... and {len(pairs) - len(rows)} more pairs</p>" if len(pairs) > len(rows) else ""
        yield "<h3>Most frequent</h3>"
        yield page.table(("true class", "taken for", "times", "share", "true boxes"), rows, left=2) + more


def _matrix(findings: Findings, seen: np.ndarray, group: np.ndarray, names: Sequence[str]) -> str:
    """Rows: true classes that occur; columns: what they were taken for; colour by share of the row."""
    confusion = findings.confusion
    heads = "".join(f"<th class=up>{text(names[k])}</th>" for k in group.tolist())
    lines = [f"<tr><th class=l>true class</th>{heads}<th class=up><b>no box</b></th></tr>"]
    for k in seen.tolist():
        counts = [*confusion.taken[k, group].tolist(), int(confusion.no_box[k])]
        cells = []
        for other, count in zip([*group.tolist(), -1], counts, strict=True):
            colour = "46,150,70" if other == k else "214,80,60"
            shade = f' style="background:rgba({colour},{0.12 + 0.6 * count / sum(counts):.2f})"' if count else ""
            cells.append(f"<td{shade}>{count or ''}</td>")
        lines.append(f"<tr><td class=l>{text(names[k])}</td>{''.join(cells)}</tr>")
    return f"<div class=wide><table class=matrix>{''.join(lines)}</table></div>"


def mistake_pictures(result: EvalResult, evidence: Evidence, findings: Findings) -> Iterator[str]:
    """The worst false positives and misses."""
    if not findings.false and not findings.missed:
        return
    key = "".join(
        f'<span class=key style="border-color:rgb{colour}"></span>{what}'
        for colour, what in ((_TRUE, "true box"), (_OURS, "predicted box"), (_FALSE, "false positive"))
    )
    yield f"<h2>False positives with the highest scores</h2><p>{key}</p>"
    yield (
        "<p class=dim>Only such as cost AP: they score higher than a right detection of their class. One of a "
        "keyframe, classes in turns.</p>"
    )
    for one in findings.false:
        where = _listed(one.true, result) if one.true else "no true person here"
        if one.label in one.true:
            where += "; another box was counted for this person"
        boxes = [(one.found, _TRUE, 6), (one.xyxy, _FALSE, 2)]  # both are seen where they coincide
        yield _picture(one, f"<b>{_said(one, result)}</b>; {where}", boxes, evidence)
    if not findings.false:
        yield "<p>None.</p>"
    yield "<h2>Misses</h2>"
    yield (
        "<p class=dim>True classes with the lowest scores among those taken for another class, and in turns persons "
        "without a box.</p>"
    )
    for one in findings.missed:
        others = tuple(k for k in one.true if k != one.label)
        also = f"; {_listed(others, result, head='also true')}" if others else ""
        if one.rival >= 0:
            also = f", taken for {text(result.class_names[one.rival])} {one.rival_score:.3f}{also}"
        boxes = [(one.xyxy, _TRUE, 6), (one.found, _OURS, 2)]
        yield _picture(one, f"missed: <b>{_said(one, result)}</b>{also}", boxes, evidence)
    if not findings.missed:
        yield "<p>None.</p>"


def _said(one: Mistake, result: EvalResult) -> str:
    score = ", no box" if math.isnan(one.score) else f" {one.score:.3f}" if one.score >= 0 else ", not a class of it"
    return text(f"{result.class_names[one.label]}{score}")


def _listed(classes: Sequence[int], result: EvalResult, *, head: str = "true") -> str:
    return text(f"{head}: {', '.join(result.class_names[k] for k in classes)}")


def _picture(one: Mistake, caption: str, boxes: Sequence[page.DrawnBox], evidence: Evidence) -> str:
    video, second = evidence.keys[one.image]
    caption += f"<br><span class=dim>{text(video)}, second {float(second):g}</span>"
    try:
        return page.figure(np.ascontiguousarray(evidence.picture(one.image)), boxes, caption=caption, width=360)
    except UserError as error:
        logger.warning("No picture of %s at second %s in the report: %s", video, second, error)
        return f"<figure><figcaption>{caption}<br>(the picture cannot be read)</figcaption></figure>"


def keyframe_pictures(folder: Path) -> str:
    """The pictures that lie beside the page, if there are any."""
    files = sorted((folder / "pictures").glob("[0-9][0-9]*_*.jpg"))
    if not files:
        return ""
    shown = "".join(
        f'<p><img loading=lazy src="pictures/{quote(file.name)}" alt="{text(file.stem)}"></p>' for file in files
    )
    return (
        f"<h2>Keyframes</h2><details><summary>{len(files)} keyframes spread over the set</summary>"
        f"<p class=dim>These lie in the folder pictures beside this file.</p>{shown}</details>"
    )
