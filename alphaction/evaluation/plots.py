"""Small plots of a report as SVG within the page."""

from __future__ import annotations

from collections.abc import Sequence

from alphaction.evaluation.analysis import Curve
from alphaction.evaluation.page import text

_LEFT, _TOP, _SIDE_X, _SIDE_Y = 38, 8, 145, 105  # pixels of the margins and of the plotted square


def curve_svg(curve: Curve, *, upper: Curve | None = None) -> str:
    """Precision (upwards) over recall, both 0 to 1; `upper`, of the true boxes, as a dashed line."""
    width, height = _LEFT + _SIDE_X + 12, _TOP + _SIDE_Y + 32
    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">']
    for share in (0, 0.5, 1):
        x, y = _LEFT + share * _SIDE_X, _TOP + (1 - share) * _SIDE_Y
        parts.append(f'<path d="M{x:g} {_TOP}V{_TOP + _SIDE_Y}M{_LEFT} {y:g}H{_LEFT + _SIDE_X}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:g}" y="{_TOP + _SIDE_Y + 12}" text-anchor="middle">{share:g}</text>')
        parts.append(f'<text x="{_LEFT - 4}" y="{y + 3:g}" text-anchor="end">{share:g}</text>')
    parts.append(f'<text x="{_LEFT + _SIDE_X / 2:g}" y="{_TOP + _SIDE_Y + 26}" text-anchor="middle">recall</text>')
    middle = _TOP + _SIDE_Y / 2
    parts.append(f'<text transform="translate(9 {middle:g}) rotate(-90)" text-anchor="middle">precision</text>')
    if upper is not None and len(upper.recall):
        parts.append(f'<path d="{_path(upper)}" fill="none" stroke="#777" stroke-dasharray="3 2"/>')
    if len(curve.recall):
        line, last = _path(curve), _LEFT + curve.recall[-1] * _SIDE_X
        floor = _TOP + _SIDE_Y
        parts.append(f'<path d="{line}V{floor}H{_LEFT}Z" fill="#3b82c4" fill-opacity=".15"/>')
        parts.append(f'<path d="{line}" fill="none" stroke="#2b6ca8" stroke-width="1.6"/>')
        parts.append(f'<circle cx="{last:.1f}" cy="{_y(curve.precision[-1]):.1f}" r="2" fill="#2b6ca8"/>')
    return "".join(parts) + "</svg>"


def _path(curve: Curve) -> str:
    few = curve.thinned()
    points = [
        f"{_LEFT + recall * _SIDE_X:.1f} {_y(precision):.1f}"
        for recall, precision in zip(few.recall.tolist(), few.precision.tolist(), strict=True)
    ]
    return f"M{_LEFT} {_y(few.precision[0]):.1f}L" + "L".join(points)


def _y(precision: float) -> float:
    return _TOP + (1 - precision) * _SIDE_Y


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """A bar for each (name, share 0..1, text behind it)."""
    lines = [
        f'<tr><td class=l>{text(name)}</td><td class="l bars"><span class=bar style="width:{300 * share:.0f}px;'
        f'background:#3b82c4"></span></td><td>{text(told)}</td></tr>'
        for name, share, told in rows
    ]
    return f"<table class=plain>{''.join(lines)}</table>"
