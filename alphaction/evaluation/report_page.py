"""`report.html`: an evaluation to read and to act on, one file that opens from disk without a network."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from pathlib import Path

from alphaction.evaluation import page
from alphaction.evaluation.files import result_file
from alphaction.evaluation.findings import Evidence, Findings
from alphaction.evaluation.page import text
from alphaction.evaluation.plots import bars
from alphaction.evaluation.report import EvalResult, number
from alphaction.evaluation.report_parts import (
    confusion_tables,
    curve_plots,
    keyframe_pictures,
    mistake_pictures,
)

_STYLE = """
td.l { max-width: 26em; overflow-wrap: break-word; } table.plain tr:nth-child(even) { background: none; }
.facts td { padding: .1em 1.2em .1em 0; }
.facts td.l { max-width: none; vertical-align: top; }
.big { font-size: 2em; font-weight: 600; } small, .dim { color: #666; }
pre { background: #f5f5f5; padding: .6em; overflow-x: auto; white-space: pre-wrap; } .bars { min-width: 11em; }
.sortable th { cursor: pointer; position: sticky; top: 0; background: #fff; white-space: nowrap; }
.sortable th:hover { background: #e8eef5; } .sortable .bar { width: 0; background: #3b82c4; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: .6em; }
.curves div { overflow-wrap: anywhere; font-size: .85em; line-height: 1.25; } svg { display: block; max-width: 100%; }
.curves small { display: block; } figure { width: 360px; }
svg text { font: 10px system-ui, sans-serif; fill: #555; }
.matrix td, .matrix th { padding: .1em .3em; min-width: 2.2em; text-align: center; border: 1px solid #ddd; }
.matrix th.up { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; vertical-align: top;
  font-weight: normal; max-height: 14em; padding: .4em .1em; } .matrix tr { background: none !important; }
.matrix td.l { text-align: right; min-width: 6em; } .wide { overflow-x: auto; }
.key { display: inline-block; width: .9em; height: .7em; border: 3px solid; margin: 0 .3em 0 .8em; }
"""

_SORT = """<script>
for (const head of document.querySelectorAll("table.sortable th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], at = head.cellIndex;
  const down = head.dataset.down = -(head.dataset.down || 1);
  const value = row => row.cells[at].dataset.v, known = v => v !== "";
  [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (known(x) !== known(y)) return known(x) ? -1 : 1;
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return at === 0 ? -down * order : down * order;
  }).forEach(row => body.append(row));
};
</script>"""


def write_page(result: EvalResult, evidence: Evidence, findings: Findings, folder: Path, *, weights: str = "") -> None:
    """Writes `report.html` into `folder`.

    Args:
        weights: the file that was tested.

    Raises:
        UserError: the file cannot be written.
    """
    content = "\n".join(_page(result, evidence, findings, folder, weights))
    with result_file(folder / "report.html", text=True) as file:
        file.write(content + "\n")


def _page(result: EvalResult, evidence: Evidence, findings: Findings, folder: Path, weights: str) -> Iterator[str]:
    yield page.head(f"Test of {result.name}", style=_STYLE)
    yield f"<h1>Test of {text(result.name)}</h1>" + _facts(result, findings, weights)
    yield _blame(result)
    if result.notes:
        yield "<h2>Notes</h2><ul>" + "".join(f"<li>{text(note)}</li>" for note in result.notes) + "</ul>"
    if result.explanation:
        yield f"<h2>What is left after each step</h2><pre>{text(result.explanation)}</pre>"
    if result.more_text:
        yield f"<h2>Further metrics</h2><pre>{text(result.more_text)}</pre>"
    if len(result.mAP_by_group) > 1:
        yield "<h2>Groups</h2>" + bars(
            [(name, 0 if math.isnan(mean) else mean, number(mean)) for name, mean in result.mAP_by_group.items()]
        )
    yield "<h2>Classes</h2><p>A click on a heading sorts.</p>" + _classes(result)
    yield "<h2>Precision and recall</h2>" + curve_plots(result, findings)
    yield "<h2>Confusion</h2>" + "".join(confusion_tables(result, evidence, findings))
    yield from mistake_pictures(result, evidence, findings)
    yield keyframe_pictures(folder)
    yield _SORT


def _facts(result: EvalResult, findings: Findings, weights: str) -> str:
    counted = int((result.num_ground_truth > 0).sum())
    rows = [
        ("protocol", result.protocol),
        ("boxes", result.boxes),
        ("classes", f"{len(result.ap)}, of which {counted} have true boxes"),
        ("keyframes", f"{result.counts.get('keyframes', 0)}"),
        ("true persons", f"{findings.num_persons}"),
        ("predicted boxes", f"{result.counts.get('predicted boxes', 0)}"),
        ("weights", weights or "not known"),
        ("date", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    ]
    rows[1:1] = [(f"mAP at IoU {threshold:g}", number(mean)) for threshold, mean in list(result.mAP_by_iou.items())[1:]]
    cells = "".join(f"<tr><td class=l>{text(name)}</td><td class=l>{text(value)}</td></tr>" for name, value in rows)
    mean = f"<p><span class=big>{number(result.mAP)}</span> mAP at IoU {result.iou_threshold:g}</p>"
    return f'{mean}<table class="plain facts">{cells}</table>'


def _blame(result: EvalResult) -> str:
    """What the detector costs."""
    lines = []
    if result.detector_recall is not None:
        lines.append(
            f"The detected boxes find {100 * result.detector_recall:.1f} % of the true ones (overlap 0.5 or more)."
        )
    if result.person_ap is not None:
        lines.append(f"As persons, whatever they do, they have AP {number(result.person_ap)}.")
    if result.upper is not None:
        lost = result.upper.mAP - result.mAP
        lines.append(
            f"With the true boxes the same weights reach mAP {number(result.upper.mAP)}: {number(lost)} is lost with "
            f"the detected ones (the detector's share), {number(1 - result.upper.mAP)} is left to the action head."
        )
    if not lines:
        return ""
    table = ""
    if result.upper is not None:
        means = [("detected", result), ("true", result.upper)]
        table = bars([(f"{name} boxes", 0 if math.isnan(r.mAP) else r.mAP, number(r.mAP)) for name, r in means])
    return f"<h2>The detector's share</h2><p>{' '.join(map(text, lines))}</p>{table}"


def _classes(result: EvalResult) -> str:
    upper = result.upper.ap if result.upper is not None else None
    head = ["class", "id", "AP", *(["AP, true boxes"] if upper is not None else [])]
    head += [*(["training persons"] if result.num_training is not None else []), "true boxes", "found", "detections"]
    rows = []
    for k in sorted(range(len(result.ap)), key=lambda k: (math.isnan(result.ap[k]), -result.ap[k])):
        ap = float(result.ap[k])
        share = 0 if math.isnan(ap) else round(90 * ap)
        bar = f'<span class=bar style="width:{share}px"></span>' if share else ""
        cells = [_cell(result.class_names[k], left=True), _cell(result.class_ids[k])]
        cells.append(
            f'<td class=l data-v="{"" if math.isnan(ap) else ap}" style="white-space:nowrap">{number(ap)} {bar}</td>'
        )
        if upper is not None:
            cells.append(_cell(number(upper[k]), sorted_by="" if math.isnan(upper[k]) else float(upper[k])))
        if result.num_training is not None:
            cells.append(_cell(int(result.num_training[k])))
        cells += [_cell(int(a[k])) for a in (result.num_ground_truth, result.num_hits, result.num_detections)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th{' class=l' if name in ('class', 'AP') else ''}>{name}</th>" for name in head)
    return (
        f"<table class=sortable><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "<p class=dim>training persons, true boxes: how often the class is annotated in the training set and in this "
        "one; found: true boxes with a detection of their class; detections: boxes with a score for the class.</p>"
    )


def _cell(value: object, *, sorted_by: object = None, left: bool = False) -> str:
    key = value if sorted_by is None else sorted_by
    return f'<td{" class=l" if left else ""} data-v="{text(key)}">{text(value)}</td>'
