"""What is told about a new data set: the facts for its configuration, the record beside it, the report for the user."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import alphaction
from alphaction.errors import ConfigError
from alphaction.preparation.config_writer import BODIES, Facts, Machine, Plan, output_dir
from alphaction.preparation.prepare_classes import Classes
from alphaction.preparation.prepare_evidence import Assumption, count
from alphaction.preparation.prepare_gather import Gathered, describe_faults
from alphaction.preparation.prepare_persons import PersonBoxes
from alphaction.preparation.prepare_rows import Split
from alphaction.preparation.prepare_videos import Footage, Matched


@dataclass(frozen=True)
class ConfigWishes:
    """What the user wants of the configuration; empty = chosen by `config_writer.make_plan`."""

    from_scratch: bool = False
    weights: str = ""
    body: str = ""
    epochs: int = 0

    def check(self) -> None:
        """Raises ConfigError for flags that contradict, or a body that would start from weights that nobody has."""
        if self.from_scratch and self.weights:
            raise ConfigError(
                f"--weights {self.weights} and --from-scratch contradict each other: with the latter nothing is read"
            )
        if self.body and not BODIES[self.body].weights and not self.from_scratch and not self.weights:
            raise ConfigError(
                f"--body {self.body}: nobody published weights for it; add --from-scratch, or --weights FILE"
            )


@dataclass(frozen=True)
class Collected:
    """Everything that is known of a new data set before it is written.

    Attributes:
        matched: the videos of the names in the annotations.
        classes: the class list, and what the actions mean.
        gathered: the annotations, thinned.
        split: which videos are trained on.
        boxes: detected persons.
        assumptions: what was decided.
        notes: remarks for the report.
        unmatched: the table of video names that were left out, "" if there are none.
    """

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


def facts_of(made: Collected, output: Path, name: str, wishes: ConfigWishes, machine: Machine) -> Facts:
    """What the configuration of a new data set in `output` is made of."""
    table = made.gathered.table
    infos = [video.info for video in made.footage]
    shapes = [max(info.width, info.height) / min(info.width, info.height) for info in infos]
    return Facts(
        train=f"{(output / 'dataset.yaml').as_posix()}:train",
        val=f"{(output / 'dataset.yaml').as_posix()}:val" if made.split.val else "",
        config=(output / "config.yaml").as_posix(),
        name=name or output.name,
        classes=made.classes.list.names,
        clips=table.num_clips(made.split.train),
        size=(int(statistics.median_low(min(info.width, info.height) for info in infos)), max(shapes)),
        single_label=table.single_label(),
        person_boxes=bool(made.boxes.of(made.split.val)),
        most_persons=max(len(p) for video in made.split.train for p in table.videos[video].values()),
        from_scratch=wishes.from_scratch,
        weights=wishes.weights,
        body=wishes.body,
        epochs=wishes.epochs,
        machine=machine,
    )


def record(made: Collected, facts: Facts, plan: Plan, *, command: str, files: Sequence[str]) -> dict[str, object]:
    """The content of prepared.json; `files` are those of the folder, as relative paths."""
    table = made.gathered.table
    counts = table.counts(made.classes.numbers)
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


def said(made: Collected) -> list[str]:
    """What was assumed, what was left out, and what else there is to know."""
    lines = ["Assumed:", *(f"  {assumption}" for assumption in made.assumptions)]
    left_out = [*made.unmatched.splitlines()[:-1], *describe_faults(made.gathered.faults)]
    if left_out:
        lines += ["Left out (--skip-bad):", *(f"  {line}" for line in left_out)]
    if made.notes:
        lines += ["Notes:", *(f"  {note}" for note in made.notes)]
    return lines


def report(made: Collected, facts: Facts, plan: Plan, output: Path) -> str:
    """What the user reads at the end."""
    table, lines = made.gathered.table, said(made)
    counts = table.counts(made.classes.numbers)
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
        f"  config.yaml: {plan.body}, {count(plan.batch, 'clip')} per batch, learning rate {plan.base_lr:g}, "
        f"{plan.iterations} iterations ({count(plan.epochs, 'pass')}), for {facts.machine}",
        *advice(facts, plan),
        "Next:",
        f"  python tools/check_dataset.py {(output / 'dataset.yaml').as_posix()}",
        f"  python tools/visualize_dataset.py --config-file {(output / 'config.yaml').as_posix()} "
        f"--dataset-name {(output / 'dataset.yaml').as_posix()}:train --num-samples 10 --output-dir look --train",
        f"  python train_net.py --config-file {(output / 'config.yaml').as_posix()}"
        + ("" if facts.from_scratch else " --transfer --no-head"),
        f"  python test_net.py --config-file {(output / 'config.yaml').as_posix()}",
    ]
    return "\n".join(lines)


def advice(facts: Facts, plan: Plan) -> list[str]:
    """What stands between the user and a run that learns."""
    lines = []
    if Path(output_dir(facts), "last_checkpoint").is_file():
        lines.append(
            f"  {output_dir(facts)} holds an earlier run, which train_net.py would continue: move that folder away, or "
            "give config.yaml another OUTPUT_DIR."
        )
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
