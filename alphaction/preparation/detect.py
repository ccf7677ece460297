"""Makes a file of detected persons or objects for a data set. The work of tools/detect_persons.py.

Shapes: n boxes of a picture of h x w pixels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from alphaction.config.dataset_file import split_reference
from alphaction.errors import DataError
from alphaction.preparation.check import BOX_THRESHOLD
from alphaction.preparation.check_boxes import ENOUGH, OVERLAP, check_detections
from alphaction.preparation.check_findings import Findings
from alphaction.preparation.check_split import SplitFacts
from alphaction.preparation.detect_frames import FrameSet, Pictures
from alphaction.preparation.detect_models import Detector, Found
from alphaction.preparation.detect_store import Row, SideFile, write_boxes

logger = logging.getLogger(__name__)

NAMED = 20  # pictures that could not be read, in the report


@dataclass(frozen=True)
class DetectOptions:
    """How to look.

    Attributes:
        output: the box file.
        objects: keep everything but persons, instead of persons.
        min_score: lowest score of a box that is written.
        batch_size: pictures that go through the detector together.
        workers: processes that read pictures; 0 = none but this one.
        force: replace an existing box file.
    """

    output: str
    objects: bool = False
    min_score: float = 0.05
    batch_size: int = 4
    workers: int = 0
    force: bool = False

    @property
    def what(self) -> str:
        return "object" if self.objects else "person"


def check_output(options: DetectOptions) -> None:
    """To be called before anything slow.

    Raises:
        DataError: the output exists, or an option is out of range.
    """
    output = Path(options.output)
    if output.is_dir():
        raise DataError(f"--output: {output}: is a folder, expected a file such as {output / 'boxes.json'}")
    if output.exists() and not options.force:
        raise DataError(f"--output: {output}: exists already. To replace: --force")
    if not 0 <= options.min_score < 1:
        raise DataError(f"--min-score: got {options.min_score:g}, expected a number from 0 to below 1")
    if options.batch_size < 1 or options.workers < 0:
        raise DataError(
            f"--batch-size, --num-workers: got {options.batch_size}, {options.workers}, expected at least 1 and 0"
        )


def detect(pictures: FrameSet, detector: Detector, options: DetectOptions) -> str:
    """Runs the detector on every picture, writes the box file, and returns the report.

    What is found is kept in a side file beside the output; the same call after a stop goes on from there.

    Raises:
        DataError: see `check_output`; there is nothing to look at, or none of the pictures can be read.
    """
    check_output(options)
    if not pictures.frames:
        raise DataError(f"{pictures.title}: there is nothing to look at" + _listed(pictures.problems))
    if options.objects and not detector.objects:
        raise DataError("--objects: this detector knows persons only; take another one with --detector")
    output = Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    settings = {"detector": detector.name, "boxes": options.what, "min_score": options.min_score}
    side = SideFile(output, settings | ({} if options.objects else {"person": detector.person}))
    if side.remark:
        logger.warning("%s", side.remark)
    try:
        failed = _look(pictures, detector, options, side)
    finally:
        side.close()
    boxes = [side.done.get(side.key(frame)) for frame in pictures.frames]
    if all(rows is None for rows in boxes):
        raise DataError(f"{pictures.title}: none of the {len(boxes)} pictures can be read" + _listed(failed))
    write_boxes(output, pictures.frames, boxes, by_name=pictures.by_name)
    side.close(remove=True)
    return "\n".join(_report(pictures, boxes, [*pictures.problems, *failed], options))


def _look(pictures: FrameSet, detector: Detector, options: DetectOptions, side: SideFile) -> list[str]:
    """Looks at the pictures that are not done; returns those that cannot be read."""
    left = [frame for frame in pictures.frames if side.key(frame) not in side.done]
    loader = DataLoader(
        Pictures(left), batch_size=options.batch_size, num_workers=options.workers, collate_fn=list, shuffle=False
    )
    failed = []
    done = len(pictures.frames) - len(left)
    with tqdm(total=len(pictures.frames), initial=done, desc="Detecting", unit="picture", disable=None) as bar:
        for batch in loader:
            good = [(left[number], image) for number, image in batch if isinstance(image, torch.Tensor)]
            failed += [f"{left[number].image_id}: {image}" for number, image in batch if isinstance(image, str)]
            if good:
                found = detector.run([image for _, image in good])
                side.add(
                    {
                        side.key(frame): _rows(seen, image.shape[:2], frame.size, detector, options)
                        for (frame, image), seen in zip(good, found, strict=True)
                    }
                )
            bar.update(len(batch))
    return failed


def _rows(
    found: Found, shape: Sequence[int], size: tuple[int, int] | None, detector: Detector, options: DetectOptions
) -> list[Row]:
    """The boxes to keep of a picture of `shape` (height, width), in pixels of `size`."""
    wanted = (found.labels == detector.person) != options.objects
    keep = np.flatnonzero(wanted & (found.scores >= options.min_score))
    keep = keep[np.argsort(-found.scores[keep], kind="stable")]
    scale = np.ones(2) if size is None else np.array(size[::-1]) / np.array(shape[1::-1])
    rows: list[Row] = []
    for i in keep.tolist():
        x1, y1, x2, y2 = (found.xyxy[i].astype(np.float64) * np.tile(scale, 2)).tolist()
        # The width of continuous corners: the reader's last pixel is x + width - 1.
        box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
        rows.append({"category_id": int(found.labels[i]), "bbox": box, "score": round(float(found.scores[i]), 5)})
    return rows


def _report(
    pictures: FrameSet, boxes: Sequence[list[Row] | None], problems: list[str], options: DetectOptions
) -> list[str]:
    scores = np.array([row["score"] for rows in boxes for row in rows or ()], np.float64)
    looked = sum(rows is not None for rows in boxes)
    usual = "" if options.objects else f", {int((scores >= BOX_THRESHOLD).sum())} of them {BOX_THRESHOLD:g} or more"
    lines = [
        f"{options.output}: {len(scores)} {options.what} boxes with a score of {options.min_score:g} or more{usual}, "
        f"in {looked} pictures ({pictures.title})"
    ]
    none = [frame.image_id for frame, rows in zip(pictures.frames, boxes, strict=True) if rows == []]
    if none:
        more = ", ..." if len(none) > 5 else ""
        lines.append(f"{len(none)} pictures without a box: {', '.join(map(str, none[:5]))}{more}")
    if problems:
        lines.append(f"{len(problems)} could not be looked at:" + _listed(problems))
    if pictures.facts is not None:
        lines += [] if options.objects else _recall(pictures.facts, options)
        lines += _advice(pictures.facts, options)
    return lines


def _recall(facts: SplitFacts, options: DetectOptions) -> list[str]:
    spec = {**facts.spec, "box_file": options.output, "object_file": ""}
    if not facts.usable_persons().any():
        return []
    covered = check_detections(replace(facts, spec=spec), Findings(), threshold=BOX_THRESHOLD)
    if covered is None:
        return []
    lines = [
        f"Recall at IoU {OVERLAP:g} against the annotated persons: {covered.recall_all:.1%}; "
        f"{covered.recall:.1%} with boxes of {covered.threshold:g} or more, which a test uses (TEST.BOX_THRESH)"
    ]
    if covered.recall < ENOUGH <= covered.recall_all:
        lines.append("A lower TEST.BOX_THRESH finds more of them; 0.5 is worth a try")
    elif covered.recall < ENOUGH:
        lines.append(
            "Persons without a box cannot be recognised in a test. Look at some boxes (tools/visualize_dataset.py); "
            "larger pictures or another --detector may help"
        )
    return lines


def _advice(facts: SplitFacts, options: DetectOptions) -> list[str]:
    """Where to name the box file."""
    spec = facts.spec
    key, present = ("object_boxes", "object_file") if options.objects else ("person_boxes", "box_file")
    if spec[present] and os.path.abspath(spec[present]) == os.path.abspath(options.output):
        return [f"The data set names this file already ({key})"]
    reference = split_reference(spec["dataset_file"]) if spec["dataset_file"] else None
    if reference is None:
        return [f'To use it, name it in the entry {spec["name"]} of the catalog: "{present}": "{options.output}"']
    folder = os.path.dirname(os.path.abspath(reference[0]))
    path = os.path.relpath(options.output, folder)
    if path.startswith(".."):
        path = os.path.abspath(options.output)
    split = f"  {reference[1]}:\n" if reference[1] else ""
    lines = [f"To use it, write into {reference[0]}:\nsplits:\n{split}    {key}: {Path(path).as_posix()}"]
    if not options.objects:
        lines.append('and test with TEST.BOXES "auto", where your configuration says "ground_truth"')
    return lines


def _listed(problems: Sequence[str]) -> str:
    more = [f"... and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
    return "".join(f"\n  {problem}" for problem in [*problems[:NAMED], *more])
