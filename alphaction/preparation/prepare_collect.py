"""From the user's files to all that a new data set needs: read, matched, decided, thinned, split; nothing written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alphaction.errors import DataError
from alphaction.preparation.prepare_classes import Classes, label_file, settle_classes
from alphaction.preparation.prepare_evidence import Assumption, count
from alphaction.preparation.prepare_gather import Gathered, Reading, describe_faults, gather, unmatched_names
from alphaction.preparation.prepare_persons import read_person_boxes
from alphaction.preparation.prepare_report import Collected
from alphaction.preparation.prepare_rows import Split, class_notes, split_by_lists, split_by_share, thin
from alphaction.preparation.prepare_videos import Matched, ProbeCache, VideoFolder, match_videos
from alphaction.preparation.sources import Source, SourceFiles, find_files, read_head, read_sources, some
from alphaction.preparation.sources_csv import read_csv
from alphaction.preparation.sources_cvat import read_cvat
from alphaction.preparation.sources_json import read_json

_SIDES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}


@dataclass(frozen=True)
class DataOptions:
    """What the user said of videos and annotations; the flags of tools/prepare_dataset.py explain each.

    Attributes:
        val_share: None = 0.2, unless the annotation files are called train and val.
        keyframe_step: None = 1 second for annotations of every frame, else all are kept.
    """

    videos: str
    annotations: Sequence[str]
    classes: str = ""
    person_boxes: Sequence[str] = ()
    val_share: float | None = None
    seed: int = 0
    train_list: str = ""
    val_list: str = ""
    keyframe_step: float | None = None
    reading: Reading = Reading()
    class_base: int | None = None
    actions_from: str = "auto"
    attributes: Sequence[str] = ()
    skip_bad: bool = False


def collect(options: DataOptions, cache: ProbeCache) -> Collected:
    """Reads and decides.

    Args:
        options: what to read.
        cache: what is known of the videos already; saved on the way.

    Raises:
        UserError: something cannot be used, or is not evident.
    """
    folder = VideoFolder(options.videos)
    files = find_files(options.annotations)
    sources, notes = read_sources(files, read=lambda path: read_source(path, options))
    matched, unmatched = _match(sources, folder, cache, options)
    classes = _classes(sources, files, matched, options)
    gathered = gather(sources, matched, classes, reading=options.reading, cache=cache)
    _refuse_faults(gathered, options)
    table = gathered.table
    thinned = thin(table, step=options.keyframe_step)
    split = _split(gathered, classes, sources, matched, options)
    boxes = read_person_boxes(options.person_boxes, gathered, sources, matched.footage)
    labels = dict(zip(classes.numbers, classes.list.names, strict=True))
    sides = f"{count(len(split.train), 'video')} to train on, {len(split.val)} to validate on"
    assumptions = (*gathered.assumptions, classes.assumption, Assumption("split", sides, split.evidence))
    notes += [*matched.notes, *gathered.notes, *boxes.notes, *split.notes, *class_notes(split, table, labels)]
    notes += [thinned] if thinned else []
    if gathered.clipped:
        verbs = "reaches out of the picture and is" if gathered.clipped == 1 else "reach out of the picture and are"
        notes.append(f"{count(gathered.clipped, 'box')} {verbs} cut at its edge")
    if table.duplicates:
        verbs = "repeats another one and counts once" if table.duplicates == 1 else "repeat another one and count once"
        notes.append(f"{count(table.duplicates, 'row')} {verbs}")
    return Collected(matched, classes, gathered, split, boxes, assumptions, tuple(dict.fromkeys(notes)), unmatched)


def read_source(path: Path, options: DataOptions) -> Source:
    """Reads one annotation file by its content.

    Raises:
        NotAnnotations: it is something else.
        DataError: it cannot be read.
    """
    head = read_head(path)
    if path.suffix.lower() in (".xml", ".zip") or head.startswith((b"<", b"PK")):
        return read_cvat(path, actions_from=options.actions_from, attributes=options.attributes)
    if path.suffix.lower() == ".json" or head[:1] in (b"{", b"["):
        return read_json(path)
    return read_csv(path)


def _match(
    sources: Sequence[Source], folder: VideoFolder, cache: ProbeCache, options: DataOptions
) -> tuple[Matched, str]:
    """(the videos, the table of names without one)."""
    names = [record.video for source in sources for record in source.records]
    aliases = {name: others for source in sources for name, others in source.aliases.items()}
    matched = match_videos(names, folder, cache, aliases=aliases)
    unmatched = unmatched_names(sources, matched, folder)
    if unmatched and (not options.skip_bad or not matched.footage):
        hint = "" if not matched.footage else ", or leave out their rows with --skip-bad"
        raise DataError(f"{unmatched}\nMend the names or the videos{hint}.")
    return matched, unmatched


def _classes(sources: Sequence[Source], files: SourceFiles, matched: Matched, options: DataOptions) -> Classes:
    given = label_file(options.classes, files.labels)
    records = [record for source in sources for record in source.records if record.video in matched.footage]
    actions = {action for record in records for action in record.actions}
    if not actions:
        faults = [fault for source in sources for fault in source.faults]
        why = "".join(f"\n  {line}" for line in describe_faults(faults))
        raise DataError(f"{', '.join(source.path for source in sources)}: there is no box with an action{why}")
    categories = [(source.path, source.categories) for source in sources if source.categories is not None]
    return settle_classes(actions, given=given, categories=categories, class_base=options.class_base)


def _refuse_faults(gathered: Gathered, options: DataOptions) -> None:
    if not gathered.table.num_persons(gathered.table.videos):
        raise DataError("no row can be used:\n  " + "\n  ".join(describe_faults(gathered.faults)))
    if gathered.faults and not options.skip_bad:
        raise DataError(
            f"{len(gathered.faults)} of {count(gathered.rows, 'row')} cannot be used:\n  "
            + "\n  ".join(describe_faults(gathered.faults))
            + "\nMend them, or leave them out with --skip-bad."
        )


def _split(
    gathered: Gathered, classes: Classes, sources: Sequence[Source], matched: Matched, options: DataOptions
) -> Split:
    table = gathered.table
    videos = list(table.videos)
    if options.train_list or options.val_list:
        listed = [_read_list(path, matched, table.videos) for path in (options.train_list, options.val_list)]
        lists = " and ".join(filter(None, (options.train_list, options.val_list)))
        return split_by_lists(videos, *listed, evidence=f"the lists in {lists}")
    by_name = {source.path: _side(source.path) for source in sources}
    if options.val_share is None and set(by_name.values()) == {"train", "val"}:
        sides: dict[str, set[str]] = {"train": set(), "val": set()}
        for video, paths in gathered.sides.items():
            for path in paths:
                sides[by_name[path]].add(video)
        return split_by_lists(
            videos, sides["train"], sides["val"], evidence=f"the names of the annotation files ({_told_sides(by_name)})"
        )
    share = 0.2 if options.val_share is None else options.val_share
    return split_by_share(videos, table.counts(classes.numbers), val_share=share, seed=options.seed)


def _told_sides(by_name: Mapping[str, str]) -> str:
    sides = {side: [Path(path).name for path, found in by_name.items() if found == side] for side in ("train", "val")}
    return "; ".join(f"{side}: {some(names)}" for side, names in sides.items())


def _side(path: str) -> str:
    """The split that a file's name tells, "" if it tells none."""
    words = re.split(r"[^a-z]+", Path(path).stem.lower())
    found = {_SIDES[word] for word in words if word in _SIDES}
    return found.pop() if len(found) == 1 else ""


def _read_list(path: str, matched: Matched, videos: Mapping[str, object]) -> list[str] | None:
    """Ids of the videos in a list, one name per line."""
    if not path:
        return None
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list of videos cannot be read ({error})") from None
    names = [line for line in lines if line and not line.startswith("#")]
    by_path = {video.path.name: video.name for video in matched.footage.values()}
    ids = {name: video.name for name, video in matched.footage.items()}
    found = {name: ids.get(name) or by_path.get(Path(name).name) or Path(name).stem for name in names}
    unknown = [name for name, video in found.items() if video not in videos]
    if unknown:
        raise DataError(f"{path}: there is no annotated video {unknown[0]!r} ({count(len(unknown), 'name')} unknown)")
    return list(found.values())
