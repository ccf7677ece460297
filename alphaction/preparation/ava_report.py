"""What the cutting of videos tells its user."""

from __future__ import annotations

from alphaction.preparation.ava_clips import CutResult


def cut_report(result: CutResult) -> str:
    """Numbers first, then every video and second that could not be cut, a line each."""
    lines = [f"{result.movies} videos: {result.written} one-second files written, {result.kept} were there already"]
    if result.problems:
        lines.append(f"{len(result.problems)} could not be cut:")
        lines += [f"  {problem}" for problem in result.problems]
    return "\n".join(lines)
