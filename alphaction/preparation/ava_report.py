"""What the cutting of videos tells its user."""

from __future__ import annotations

from alphaction.preparation.ava_clips import CutResult
from alphaction.preparation.prepare_evidence import count


def cut_report(result: CutResult) -> str:
    """Numbers first, then every video and second that could not be cut, a line each."""
    written = f"{count(result.written, 'one-second file')} written, {result.kept} there already"
    lines = [f"{count(result.movies, 'video')}: {written}"]
    if result.problems:
        lines.append(f"{len(result.problems)} could not be cut:")
        lines += [f"  {problem}" for problem in result.problems]
    return "\n".join(lines)
