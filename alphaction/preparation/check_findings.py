"""What the data set checker can find: the codes with their levels and cures, and the list of what was found.

`docs/DATA_CHECKS.md` explains every code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        level: "error": training stops or is wrong; "warning": something is left out or weakens the result; "note".
        title: what it is, for headings.
        cure: what to do.
    """

    level: Level
    title: str
    cure: str


KINDS: dict[str, Kind] = {
    # the files
    "file": Kind("error", "a file that cannot be read", "Mend or name the file that the message says."),
    "bad-row": Kind("error", "rows that cannot be read", "Correct the rows; DATA.md shows the forms."),
    "bad-image": Kind(
        "error", "images that cannot be used", "Give every image an id of its own, its movie and its time in seconds."
    ),
    "pixel-boxes": Kind(
        "error",
        "boxes in pixels where fractions are expected",
        "Divide x by the frame's width and y by its height, or give the annotations as COCO JSON.",
    ),
    "unknown-class": Kind(
        "error", "classes that are not in the class list", "Add the class to 'classes', or correct the rows."
    ),
    "unlisted-image": Kind(
        "warning", "annotations of images that are not listed", "Add the images to 'images', or delete the annotations."
    ),
    "no-action": Kind("warning", "boxes without an action (left out)", "Give them an action, or delete the rows."),
    "no-label": Kind(
        "note", "persons without any action", "They count as examples of no class. Delete them if this is not meant."
    ),
    "duplicate-row": Kind("warning", "rows that repeat another (counted once)", "Delete the repeated rows."),
    # videos
    "video-missing": Kind(
        "error", "annotated videos that are not there", "Copy the video, or correct its name in the annotations."
    ),
    "video-unreadable": Kind(
        "error", "videos that cannot be decoded", "Copy or convert the video again: ffmpeg -i IN -c:v libx264 OUT.mp4"
    ),
    "video-truncated": Kind(
        "error", "videos that end before their header says", "The file was cut off in copying: copy it again."
    ),
    "video-damaged": Kind("error", "videos with damaged frames", "Copy or convert the video again."),
    "clip-missing": Kind(
        "error", "seconds whose clip is missing or empty", "Cut the movie again, or delete these keyframes."
    ),
    "video-short": Kind(
        "warning",
        "videos shorter than one clip (their ends repeat)",
        "Use longer videos, or a smaller INPUT.FRAME_NUM x INPUT.FRAME_SAMPLE_RATE.",
    ),
    "video-unannotated": Kind("note", "videos without annotations (not used)", "Nothing, unless they were forgotten."),
    "video-slow": Kind("note", "videos without usable time stamps", "Convert them to mp4, else every clip is slow."),
    "variable-rate": Kind(
        "note",
        "videos of variable frame rate",
        "Nothing for times in seconds; frame numbers of such a video cannot be turned into times by a rate.",
    ),
    "rate-mismatch": Kind(
        "warning",
        "times that fit another frame rate than the video's",
        "If times were computed from frame numbers, divide by the rate of this very file. Look at the boxes with "
        "tools/visualize_dataset.py.",
    ),
    "size-mismatch": Kind(
        "warning",
        "boxes annotated in a picture of another shape than the video's",
        "Annotate the same file, or correct width and height; look at the boxes with tools/visualize_dataset.py.",
    ),
    "times-are-frames": Kind(
        "error", "times that look like frame numbers", "Divide them by the video's frames per second."
    ),
    "time-outside": Kind(
        "warning", "keyframes past the end of their video (left out)", "Correct the times, or delete the rows."
    ),
    # boxes
    "box-nan": Kind("warning", "boxes that are not numbers (left out)", "Correct or delete them."),
    "box-empty": Kind(
        "warning",
        "boxes without an area (left out)",
        "Corners belong in the order x1, y1, x2, y2 with x1 < x2, y1 < y2.",
    ),
    "box-outside": Kind("warning", "boxes outside the picture (left out)", "Correct or delete them."),
    "box-clipped": Kind("note", "boxes partly outside the picture (clipped)", "Nothing."),
    "box-duplicate": Kind(
        "warning",
        "two persons with the same box",
        "Give all actions of a person the same box and the same person id, so that they become one person.",
    ),
    # classes
    "classes-differ": Kind(
        "error", "splits with different classes", "Give all splits one class list: 'classes' in the dataset.yaml."
    ),
    "class-without-example": Kind(
        "warning",
        "classes without a training example",
        "The model cannot learn them: annotate some, or take them out of the class list.",
    ),
    "class-only-in-train": Kind(
        "warning",
        "classes that no test split has",
        "Their quality cannot be measured: put some of their videos into the test split.",
    ),
    "class-few": Kind("note", "classes with fewer than 10 training examples", "Expect little of them; annotate more."),
    "imbalance": Kind(
        "note",
        "classes of very different sizes",
        "DATALOADER.REPEAT_THRESHOLD (try 0.1) shows clips of rare classes more often; "
        "MODEL.ROI_ACTION_HEAD.CLASS_BALANCE (try 0.5) weighs them more.",
    ),
    # splits
    "video-in-two-splits": Kind(
        "warning", "videos that two splits share", "Split by video, else the test only measures memory."
    ),
    "keyframes-shared": Kind(
        "error", "keyframes that two splits share", "Take them out of one of the splits, else the mAP means nothing."
    ),
    "same-content": Kind("warning", "the same video under two names", "Delete one, or keep both in the same split."),
    # boxes of detectors
    "recall": Kind(
        "warning",
        "detections that cover few annotated persons",
        "A person that no detection covers can never be found. Lower TEST.BOX_THRESH, detect again "
        "(tools/detect_persons.py), or test with TEST.BOXES ground_truth.",
    ),
    "boxes-unknown": Kind(
        "note",
        "detected boxes of images that are not annotated (not used)",
        "Nothing, if they were made for more videos.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: key of `KINDS`.
        split: name of the split; "" where several are meant.
        file: path of the file that is wrong.
        row: where in it ("line 12", "annotation 7", "image 3"); "" for the whole file.
        message: what is wrong, without the file and the row.
        movie, time: the keyframe that shows it; "" and None where there is none.
        box: x1, y1, x2, y2 in 0..1 of the picture, where a box is meant.
    """

    code: str
    split: str
    file: str
    row: str
    message: str
    movie: str = ""
    time: float | None = None
    box: tuple[float, ...] | None = None

    @property
    def level(self) -> Level:
        return KINDS[self.code].level

    def __str__(self) -> str:
        place = " ".join(part for part in (self.file, self.row) if part)
        return f"{place}: {self.message}" if place else self.message


class Findings:
    """All that was found, in the order of `KINDS`."""

    def __init__(self) -> None:
        self._by_code: dict[str, list[Finding]] = {code: [] for code in KINDS}

    def add(
        self,
        code: str,
        *,
        split: str,
        file: str,
        message: str,
        row: str = "",
        movie: str = "",
        time: float | None = None,
        box: tuple[float, ...] | None = None,
    ) -> None:
        self._by_code[code].append(Finding(code, split, file, row, message, movie, time, box))

    def of(self, code: str) -> list[Finding]:
        return self._by_code[code]

    def groups(self) -> Iterator[tuple[str, Kind, list[Finding]]]:
        """(code, kind, findings) of what was found, errors first."""
        for level in LEVELS:
            for code, kind in KINDS.items():
                if kind.level == level and self._by_code[code]:
                    yield code, kind, self._by_code[code]

    def count(self, level: Level) -> int:
        return sum(len(found) for _, kind, found in self.groups() if kind.level == level)

    def __iter__(self) -> Iterator[Finding]:
        for _, _, found in self.groups():
            yield from found
