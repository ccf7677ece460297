"""A configuration for a data set that is there already. The work of generate_finetune_config.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alphaction.config.load import load_config
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.resolve import Resolved, resolve
from alphaction.dataset.video_index import VideoIndex
from alphaction.errors import DataError
from alphaction.formats.label_files import read_classes
from alphaction.preparation.config_writer import Facts, Machine, config_text, make_plan, this_machine
from alphaction.preparation.prepare_evidence import count
from alphaction.preparation.prepare_report import ConfigWishes, advice
from alphaction.utils.atomic import write_text


def generate_config(
    train: str,
    val: str,
    output: str,
    *,
    wishes: ConfigWishes,
    command: str,
    force: bool = False,
    machine: Machine | None = None,
) -> str:
    """Writes the configuration and returns the report for the user.

    Args:
        train: "path/to/dataset.yaml:train", or a name of the catalog.
        val: likewise; "" = there is none.
        output: the configuration to write.
        wishes: what the user wants of it.
        command: how this was called, for the first line.
        force: replace `output` if it exists.
        machine: what will train; None = this one.

    Raises:
        UserError: the set cannot be read, or `output` exists.
    """
    wishes.check()
    path = Path(output)
    if path.is_dir():
        raise DataError(f"--output {path}: is a folder; name a file, e.g. {path / 'config.yaml'}")
    if path.exists() and not force:
        raise DataError(f"--output {path}: exists already. To replace it: --force")
    resolved = _read(train)
    facts = _facts(resolved, train, val, path, wishes, machine or this_machine())
    if not facts.clips:
        raise DataError(f"{train}: no keyframe has a usable person; dropped: {resolved.report.reasons()}")
    plan = make_plan(facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text=config_text(facts, plan, command=command))
    load_config(path)
    lines = [resolved.report.summary(), f"Written: {path}: {plan.body}, {count(plan.batch, 'clip')} per batch,"]
    lines[-1] += f" learning rate {plan.base_lr:g}, {plan.iterations} iterations ({count(plan.epochs, 'pass')})"
    return "\n".join([*lines, *advice(facts, plan)])


def _facts(resolved: Resolved, train: str, val: str, path: Path, wishes: ConfigWishes, machine: Machine) -> Facts:
    annotations = resolved.annotations
    height, width = annotations.size.T
    persons = annotations.boxes.counts()
    return Facts(
        train=train,
        val=val,
        config=path.as_posix(),
        name=DatasetCatalog.get(train)["name"].removesuffix("_train"),
        classes=annotations.classes.names,
        clips=int((persons > 0).sum()),
        size=(
            int(np.median(annotations.size.min(axis=1))),
            float(np.max(np.maximum(height, width) / np.minimum(height, width))),
        ),
        single_label=bool((annotations.labels.sum(axis=1) == 1).all()),
        person_boxes=bool(val and DatasetCatalog.get(val)["box_file"]),
        most_persons=int(persons.max()),
        from_scratch=wishes.from_scratch,
        weights=wishes.weights,
        body=wishes.body,
        epochs=wishes.epochs,
        machine=machine,
    )


def _read(name: str) -> Resolved:
    spec = DatasetCatalog.get(name)
    classes = spec.get("classes")
    raw = read_annotations(spec["ann_file"], None if classes is None else read_classes(classes))
    return resolve(raw, VideoIndex(spec["video_root"]), name=spec["name"], on_error="skip")
