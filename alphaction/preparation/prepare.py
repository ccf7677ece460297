"""A user's videos and annotations -> a data set and a configuration to train on it. The work of prepare_dataset.py."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from alphaction.config.load import load_config
from alphaction.errors import DataError
from alphaction.preparation.config_writer import Facts, Machine, Plan, config_text, make_plan, this_machine
from alphaction.preparation.prepare_collect import DataOptions, collect
from alphaction.preparation.prepare_report import Collected, ConfigWishes, facts_of, record, report
from alphaction.preparation.prepare_videos import ProbeCache
from alphaction.preparation.prepare_write import (
    RECORD,
    annotations_text,
    dataset_yaml,
    place_videos,
    refuse_existing,
    store_frames,
    whole_folder,
    write_classes,
)
from alphaction.preparation.sources import some


@dataclass(frozen=True)
class Options:
    """What to make.

    Attributes:
        data: videos and annotations.
        output: the new folder.
        name: of the data set; "" = that of the folder.
        force: replace a folder that this tool made before.
        config: wishes for the configuration.
    """

    data: DataOptions
    output: str
    name: str = ""
    force: bool = False
    config: ConfigWishes = ConfigWishes()


def prepare(options: Options, *, command: str, machine: Machine | None = None) -> str:
    """Makes the data set and returns the report for the user.

    Args:
        options: what to make.
        command: how it was called, for the records.
        machine: what will train; None = this one.

    Raises:
        UserError: something cannot be used, or is not evident; nothing was written.
    """
    output = Path(options.output)
    options.config.check()
    name = options.name or output.name
    if re.search(r'[/\\:"\x00-\x1f]', name) or name in ("", ".", ".."):
        raise DataError(
            f"--name {name!r}: expected a name without / \\ : and quotes (result folders are called after it)"
        )
    refuse_existing(output, force=options.force)
    cache = ProbeCache(output.with_name(f".{output.name}.probe.json"))
    made = collect(options.data, cache)
    facts, plan = _write(made, options, command, machine or this_machine())
    cache.remove()
    return report(made, facts, plan, output)


def _write(made: Collected, options: Options, command: str, machine: Machine) -> tuple[Facts, Plan]:
    output = Path(options.output)
    facts = facts_of(made, output, options.name, options.config, machine)
    if not facts.clips:
        raise DataError("no training clip is left: the training videos have no keyframe with a person")
    if made.split.val and not made.gathered.table.num_clips(made.split.val):
        raise DataError(
            f"the validation videos ({some(made.split.val)}) have no keyframe with a person. Try another --seed, "
            "--val-list FILE, or --val-share 0"
        )
    plan = make_plan(facts)
    with whole_folder(output) as partial:
        for split, videos in made.splits.items():
            _write_text(partial / "annotations" / f"{split}.csv", annotations_text(made.gathered.table, videos))
        with_boxes = [split for split, videos in made.splits.items() if made.boxes.of(videos)]
        for split in with_boxes:
            _write_text(partial / "boxes" / f"{split}.json", json.dumps(made.boxes.of(made.splits[split])))
        write_classes(partial / "classes.txt", made.classes.list)
        place, _ = place_videos(partial, output, made.footage)
        store_frames(partial, output, made.footage)
        text = dataset_yaml(facts.name, place, list(made.splits), with_boxes)
        (partial / "dataset.yaml").write_text(text, encoding="utf-8")
        (partial / "config.yaml").write_text(config_text(facts, plan, command=command), encoding="utf-8")
        load_config(partial / "config.yaml")
        files = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if not path.is_dir())
        content = record(made, facts, plan, command=command, files=[*files, RECORD])
        (partial / RECORD).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return facts, plan


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
