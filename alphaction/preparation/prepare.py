"""A user's videos and annotations -> a data set and a configuration to train on it. The work of prepare_dataset.py."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import alphaction
from alphaction.config.load import load_config
from alphaction.errors import ConfigError, DataError
from alphaction.preparation.config_writer import BODIES, Facts, Machine, Plan, config_text, make_plan, this_machine
from alphaction.preparation.prepare_classes import Classes, label_file, settle_classes
from alphaction.preparation.prepare_evidence import Assumption, count
from alphaction.preparation.prepare_gather import Gathered, Reading, describe_faults, gather, unmatched_names
from alphaction.preparation.prepare_persons import PersonBoxes, read_person_boxes
from alphaction.preparation.prepare_rows import Split, class_notes, split_by_lists, split_by_share, thin
from alphaction.preparation.prepare_videos import Footage, Matched, ProbeCache, VideoFolder, match_videos
from alphaction.preparation.prepare_write import (
    RECORD,
    dataset_yaml,
    place_videos,
    refuse_existing,
    whole_folder,
    write_annotations,
    write_boxes,
    write_classes,
)
from alphaction.preparation.sources import Source, SourceFiles, find_files, read_head, read_sources
from alphaction.preparation.sources_csv import read_csv
from alphaction.preparation.sources_cvat import read_cvat
from alphaction.preparation.sources_json import read_json

_SIDES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}


@dataclass(frozen=True)
class Options:
    """What the user asked for; the flags of tools/prepare_dataset.py explain each.

    Attributes:
        val_share: None = 0.2, unless the annotation files are called train and val.
        keyframe_step: None = 1 second for annotations of every frame, else all are kept.
    """

    videos: str
    annotations: Sequence[str]
    output: str
    classes: str = ""
    person_boxes: Sequence[str] = ()
    name: str = ""
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
    force: bool = False
    from_scratch: bool = False
    weights: str = ""
    body: str = ""
    epochs: int = 0


@dataclass(frozen=True)
class Prepared:
    """What was made: the folder, and the report for the user."""

    output: Path
    report: str


def prepare(options: Options, *, command: str, machine: Machine | None = None) -> Prepared:
    """Makes the data set.

    Args:
        options: what to make.
        command: how it was called, for the records.
        machine: what will train; None = this one.

    Raises:
        UserError: something cannot be used, or is not evident; nothing was written.
    """
    output = Path(options.output)
    if options.body and not BODIES[options.body].weights and not options.from_scratch and not options.weights:
        raise ConfigError(
            f"--body {options.body}: nobody published weights for it; add --from-scratch, or --weights FILE"
        )
    refuse_existing(output, force=options.force)
    folder = VideoFolder(options.videos)
    files = find_files(options.annotations)
    sources, notes = read_sources(files, read=lambda path: read_source(path, options))
    cache = ProbeCache(output.with_name(f".{output.name}.probe.json"))
    names = [record.video for source in sources for record in source.records]
    aliases = {name: others for source in sources for name, others in source.aliases.items()}
    matched = match_videos(names, folder, cache, aliases=aliases)
    unmatched = unmatched_names(sources, matched, folder)
    if unmatched and (not options.skip_bad or not matched.footage):
        hint = "" if not matched.footage else ", or leave out their rows with --skip-bad"
        raise DataError(f"{unmatched}\nRename the videos or mend the names{hint}.")
    classes = _classes(sources, files, matched, options)
    gathered = gather(sources, matched, classes, reading=options.reading)
    _refuse_faults(gathered, options)
    thinned, left_out = thin(gathered.table, step=options.keyframe_step)
    table = gathered.table
    split = _split(gathered, classes, sources, matched, options)
    boxes = read_person_boxes(options.person_boxes, gathered, sources, matched.footage)
    labels = dict(zip(classes.list.ids, classes.list.names, strict=True))
    assumptions = [*gathered.assumptions, classes.assumption, Assumption("split", _sides(split), split.evidence)]
    notes += [*matched.notes, *gathered.notes, *boxes.notes, *split.notes, *class_notes(split, table, labels)]
    notes += [thinned] if thinned else []
    if gathered.clipped:
        notes.append(f"{count(gathered.clipped, 'box')} reach out of the picture and are cut at its edge")
    if table.duplicates:
        notes.append(f"{count(table.duplicates, 'row')} repeat another one and count once")
    made = _Made(options, matched, classes, gathered, split, boxes, tuple(assumptions), tuple(notes), unmatched)
    facts, plan = _write(made, output, command, machine or this_machine())
    cache.remove()
    return Prepared(output, _report(made, facts, plan, left_out, output))


def read_source(path: Path, options: Options) -> Source:
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


@dataclass(frozen=True)
class _Made:
    """Everything that is known before writing."""

    options: Options
    matched: Matched
    classes: Classes
    gathered: Gathered
    split: Split
    boxes: PersonBoxes
    assumptions: Sequence[Assumption]
    notes: Sequence[str]
    unmatched: str

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        return {"train": self.split.train} | ({"val": self.split.val} if self.split.val else {})

    @property
    def footage(self) -> list[Footage]:
        used = {*self.split.train, *self.split.val}
        distinct = {video.name: video for video in self.matched.footage.values()}
        return [video for name, video in sorted(distinct.items()) if name in used]


def _classes(sources: Sequence[Source], files: SourceFiles, matched: Matched, options: Options) -> Classes:
    given = label_file(options.classes, files.labels)
    records = [record for source in sources for record in source.records if record.video in matched.footage]
    actions = {action for record in records for action in record.actions}
    if not actions:
        raise DataError(f"{', '.join(source.path for source in sources)}: there is no box with an action")
    categories = [(source.path, source.categories) for source in sources if source.categories is not None]
    return settle_classes(actions, given=given, categories=categories, class_base=options.class_base)


def _refuse_faults(gathered: Gathered, options: Options) -> None:
    if not gathered.table.num_persons(gathered.table.videos):
        raise DataError("no row can be used:\n  " + "\n  ".join(describe_faults(gathered.faults)))
    if gathered.faults and not options.skip_bad:
        raise DataError(
            f"{len(gathered.faults)} of {count(gathered.rows, 'row')} cannot be used:\n  "
            + "\n  ".join(describe_faults(gathered.faults))
            + "\nMend them, or leave them out with --skip-bad."
        )


def _split(
    gathered: Gathered, classes: Classes, sources: Sequence[Source], matched: Matched, options: Options
) -> Split:
    table = gathered.table
    videos = list(table.videos)
    if options.train_list or options.val_list:
        sides = [_read_list(path, matched, table.videos) for path in (options.train_list, options.val_list)]
        lists = " and ".join(filter(None, (options.train_list, options.val_list)))
        return split_by_lists(videos, *sides, evidence=f"the lists in {lists}")
    by_name = {source.path: _side(source.path) for source in sources}
    if options.val_share is None and set(by_name.values()) == {"train", "val"}:
        sides = {"train": set(), "val": set()}
        for video, paths in gathered.sides.items():
            for path in paths:
                sides[by_name[path]].add(video)
        return split_by_lists(videos, sides["train"], sides["val"], evidence="the names of the annotation files")
    share = 0.2 if options.val_share is None else options.val_share
    return split_by_share(videos, table.counts(classes.list.ids), val_share=share, seed=options.seed)


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


def _sides(split: Split) -> str:
    return f"{count(len(split.train), 'video')} to train on, {len(split.val)} to validate on"


def _facts(made: _Made, output: Path, machine: Machine) -> Facts:
    table, options = made.gathered.table, made.options
    infos = [video.info for video in made.footage]
    shapes = [max(info.width, info.height) / min(info.width, info.height) for info in infos]
    return Facts(
        dataset=(output / "dataset.yaml").as_posix(),
        name=options.name or output.name,
        classes=made.classes.list.names,
        clips=table.num_clips(made.split.train),
        val_clips=table.num_clips(made.split.val),
        size=(min(min(info.width, info.height) for info in infos), max(shapes)),
        single_label=table.single_label(),
        person_boxes=bool(made.boxes.of(made.split.val)),
        most_persons=max(len(p) for video in made.split.train for p in table.videos[video].values()),
        from_scratch=options.from_scratch,
        weights=options.weights,
        body=options.body,
        epochs=options.epochs,
        machine=machine,
    )


def _write(made: _Made, output: Path, command: str, machine: Machine) -> tuple[Facts, Plan]:
    facts = _facts(made, output, machine)
    if not facts.clips:
        raise DataError("no training clip is left: the training videos have no keyframe with a person")
    plan = make_plan(facts)
    with whole_folder(output) as partial:
        for split, videos in made.splits.items():
            write_annotations(partial / "annotations" / f"{split}.csv", made.gathered.table, videos)
        with_boxes = [split for split, videos in made.splits.items() if made.boxes.of(videos)]
        for split in with_boxes:
            write_boxes(partial / "boxes" / f"{split}.json", made.boxes.of(made.splits[split]))
        write_classes(partial / "classes.txt", made.classes.list)
        place, _ = place_videos(partial, output, made.footage)
        text = dataset_yaml(facts.name, place, list(made.splits), with_boxes)
        (partial / "dataset.yaml").write_text(text, encoding="utf-8")
        (partial / "config.yaml").write_text(config_text(facts, plan, command=command), encoding="utf-8")
        load_config(partial / "config.yaml")
        files = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if not path.is_dir())
        record = _record(made, facts, plan, command, [*files, RECORD])
        (partial / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    return facts, plan


def _record(made: _Made, facts: Facts, plan: Plan, command: str, files: Sequence[str]) -> dict[str, object]:
    table = made.gathered.table
    counts = table.counts(made.classes.list.ids)
    rows = {video: i for i, video in enumerate(table.videos)}
    return {
        "made_by": command,
        "version": alphaction.__version__,
        "assumed": [assumption._asdict() for assumption in made.assumptions],
        "notes": list(made.notes),
        "left_out": [fault._asdict() for fault in made.gathered.faults],
        "classes": {
            str(action): class_id
            for action, class_id in sorted(made.classes.ids.items(), key=lambda pair: str(pair[0]))
        },
        "splits": {
            split: {
                "videos": list(videos),
                "keyframes": table.num_keyframes(videos),
                "persons": table.num_persons(videos),
                "labels": dict(
                    zip(made.classes.list.names, counts[[rows[v] for v in videos]].sum(axis=0).tolist(), strict=True)
                ),
            }
            for split, videos in made.splits.items()
        },
        "videos": {video.name: {"path": str(video.path), **asdict(video.info)} for video in made.footage},
        "machine": str(facts.machine),
        "plan": asdict(plan),
        "files": list(files),
    }


def _report(made: _Made, facts: Facts, plan: Plan, left_out: Mapping[str, int], output: Path) -> str:
    table, gathered = made.gathered.table, made.gathered
    lines = ["Assumed:", *(f"  {assumption}" for assumption in made.assumptions)]
    if made.unmatched:
        lines += ["Left out (--skip-bad):", *(f"  {line}" for line in made.unmatched.splitlines()[:-1])]
    if gathered.faults:
        lines += [] if made.unmatched else ["Left out (--skip-bad):"]
        lines += [f"  {line}" for line in describe_faults(gathered.faults)]
    if made.notes:
        lines += ["Notes:", *(f"  {note}" for note in made.notes)]
    counts = table.counts(made.classes.list.ids)
    rows = {video: i for i, video in enumerate(table.videos)}
    lines.append(f"Written to {output}:")
    for split, videos in made.splits.items():
        lines.append(
            f"  {split}: {count(len(videos), 'video')}, {count(table.num_keyframes(videos), 'keyframe')}, "
            f"{count(table.num_persons(videos), 'person')}"
        )
    sums = {split: counts[[rows[video] for video in videos]].sum(axis=0) for split, videos in made.splits.items()}
    width = max(len(name) for name in (*made.classes.list.names, "class"))
    lines.append(f"  {'class':<{width}}  " + "  ".join(f"{split:>7}" for split in sums))
    for i, name in enumerate(made.classes.list.names):
        lines.append(f"  {name:<{width}}  " + "  ".join(f"{int(column[i]):>7}" for column in sums.values()))
    lines += [
        f"  config.yaml: {plan.body}, {plan.batch} clips per batch, learning rate {plan.base_lr:g}, "
        f"{plan.iterations} iterations ({count(plan.epochs, 'pass')}), for {facts.machine}",
        *_advice(facts, plan),
        "Next:",
        f"  python tools/check_dataset.py {(output / 'dataset.yaml').as_posix()}",
        f"  python train_net.py --config-file {(output / 'config.yaml').as_posix()}"
        + ("" if facts.from_scratch else " --transfer --no-head"),
        f"  python test_net.py --config-file {(output / 'config.yaml').as_posix()}",
    ]
    return "\n".join(lines)


def _advice(facts: Facts, plan: Plan) -> list[str]:
    """What stands between the user and a run that learns."""
    lines = []
    weights = facts.weights or BODIES[plan.body].weights
    if not facts.from_scratch and not Path(weights).is_file():
        link = BODIES[plan.body].link
        where = f" from {link}" if link and not facts.weights else ""
        lines.append(f"  The weights to start from are not there yet: get {weights}{where} first.")
        lines.append(
            "  Without them: the same command with --from-scratch --force makes a small network's configuration."
        )
    if not facts.machine.gpu and plan.body != "Slowfast-Tiny":
        lines.append(
            f"  On a processor {plan.body} takes several seconds per clip; --from-scratch is quick enough for a try."
        )
    return lines
