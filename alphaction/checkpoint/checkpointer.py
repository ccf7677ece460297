"""Saves a run and continues it, or starts it from a weight file."""

from __future__ import annotations

import copy
import logging
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from alphaction import __version__
from alphaction.checkpoint import last_checkpoint, random_state
from alphaction.checkpoint.class_rows import SWITCH, ClassNames
from alphaction.checkpoint.files import read_checkpoint
from alphaction.checkpoint.matching import LoadReport, load_weights, unwrap
from alphaction.checkpoint.restore import (
    Part,
    Schedule,
    restore_optimizer,
    restore_parts,
    restore_schedule,
    tell_changed_facts,
)
from alphaction.checkpoint.state import (
    AVERAGED,
    OWN_ENTRIES,
    PARTS,
    LoadedState,
    averaged_weights,
    check_plain,
    class_names,
    describe,
    finished_iterations,
)
from alphaction.checkpoint.writing import CheckpointFolder
from alphaction.errors import CheckpointError
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))


class Checkpointer:
    """Writes checkpoints to a folder; continues a run from it, or starts one from a weight file.

    Args:
        output_dir: the run's folder; "" = nothing is written and no `last_checkpoint` is looked for.
        model: may be wrapped in DistributedDataParallel.
        optimizer: None when testing.
        scheduler: None when testing.
        class_names: names of the classes, in the order of the model's outputs; stored in the file.
        class_ids: their ids in the annotation files; by default 1, 2, ...
        class_counts: annotated persons of each class in the training set, for the report of a test; stored in the file.
        rows_by_name: a new run that starts from weights takes the last layer's rows of the classes of the same name.
        config_text: the run's whole configuration, stored in the file.
        parts: whatever else has a state, by the name of its entry (`PARTS`): averaged weights, gradient scaler.
        facts: what the order of the clips depends on, by the names of `restore.FACTS`; a resumed run that has others
            is told.
        keep: periodic checkpoints that are kept, the latest ones; 0 = all.
        processes: of the run; only process 0 writes.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        model: nn.Module,
        *,
        optimizer: Optimizer | None = None,
        scheduler: Schedule | None = None,
        class_names: Sequence[str] = (),
        class_ids: Sequence[int | str] = (),
        class_counts: Sequence[int] = (),
        rows_by_name: bool = False,
        config_text: str = "",
        parts: Mapping[str, Part] | None = None,
        facts: Mapping[str, int] | None = None,
        keep: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        self._output_dir = pathlib.Path(output_dir) if os.fspath(output_dir) else None
        self._model = unwrap(model)
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._class_names = list(class_names)
        self._class_ids = list(class_ids) or list(range(1, len(self._class_names) + 1))
        self._class_counts = list(class_counts)
        self._rows_by_name = rows_by_name
        self._config_text = config_text
        self._parts = dict(parts or {})
        unknown = sorted(set(self._parts) - set(PARTS))
        if unknown:
            raise ValueError(f"parts: got {', '.join(unknown)}, expected {' or '.join(PARTS)}")
        self._facts = dict(facts or {})
        self._processes = processes
        self._folder = None if self._output_dir is None else CheckpointFolder(self._output_dir, keep=keep)
        self._best: dict[str, dict[str, float]] = {}
        self._random_states: list[Mapping[str, Any]] = []

    def note_validation(self, scores: Mapping[str, float], *, iteration: int) -> None:
        """Keeps the best mAP per data set; it goes into the next checkpoint. NaN (no ground truth) does not count."""
        for name, score in scores.items():
            if not math.isnan(score) and score > self._best.get(name, {}).get("mAP", -math.inf):
                self._best[name] = {"mAP": float(score), "iteration": int(iteration)}

    def save(
        self,
        name: str,
        *,
        iteration: int,
        extra: Mapping[str, Any] | None = None,
    ) -> pathlib.Path | None:
        """Writes `<name>.pth`, then notes it in `last_checkpoint`. All processes call it; the first one writes.

        Args:
            name: without ".pth", e.g. "model_0000100".
            iteration: finished iterations.
            extra: further entries: tensors, numbers, texts, and dicts and lists of them.

        Returns:
            The file, or None without a folder.

        Raises:
            CheckpointError: the disk is full or the folder cannot be written to; the earlier files are whole. Raised
                in all processes.
        """
        if self._folder is None:
            return None
        folder = self._folder
        states = self._processes.gather(self.current_random_state())

        def write() -> pathlib.Path:
            content = self._content(iteration) | self._run_content(states)
            clash = sorted(set(extra or ()) & set(OWN_ENTRIES))
            if clash:
                raise ValueError(f"extra: {', '.join(clash)} are entries of the checkpoint itself")
            content |= dict(extra or {})
            check_plain(content, where="checkpoint")
            return folder.write(name, content, iteration=iteration)

        return self._processes.on_main(write)

    def save_weights(self, name: str, *, iteration: int) -> pathlib.Path | None:
        """Writes `<name>.pth` with the weights (and the averaged ones) to test or to start from, not to resume.

        `last_checkpoint` keeps naming what it names. Otherwise as `save`.
        """
        if self._folder is None:
            return None
        folder = self._folder
        return self._processes.on_main(
            lambda: folder.write(name, self._content(iteration), iteration=iteration, is_last=False)
        )

    def current_random_state(self) -> dict[str, Any]:
        """This process's random generators, for `set_random_state`."""
        return random_state.capture(self._device())

    def restore_random_state(self) -> None:
        """Sets the generators once more to the resumed file's state; call it last before the loop.

        Whatever is built between loading and the first iteration (data loaders, other models) may have drawn from them.
        Without a resumed file nothing happens.
        """
        if self._processes.rank < len(self._random_states):
            random_state.restore(self._random_states[self._processes.rank], device=self._device())
        elif self._random_states:
            logger.warning(
                "The checkpoint was written by %d processes: process %d starts its random generators anew.",
                len(self._random_states),
                self._processes.rank,
            )

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        """Sets this process's generators to what `current_random_state` found."""
        random_state.restore(state, device=self._device())

    def resume_or_load(
        self, weight: str, *, transfer: bool = False, no_head: bool = False, adjust_lr: bool = False
    ) -> LoadedState:
        """Brings model, optimizer, schedule and random generators to where the run starts.

        A `last_checkpoint` in the folder comes first: the run continues from it, and `weight`, `transfer` and
        `no_head`, which start a run, do not count. Otherwise `weight` is read: a checkpoint is resumed entirely, of a
        file that holds only weights (or with `transfer`) only the weights are taken.

        Args:
            weight: MODEL.WEIGHT; "" = from scratch.
            transfer: take the weights only; iteration 0, fresh optimizer and schedule.
            no_head: leave everything below `roi_heads.` as initialised.
            adjust_lr: when resuming, keep the configuration's schedule, at the saved iteration.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit.
        """
        folder = self._output_dir
        if folder is not None and (last := last_checkpoint.read_last(folder)) is not None:
            path, content = last
            self._tell_of_last(folder / last_checkpoint.NAME, path, weight, transfer=transfer, no_head=no_head)
            return self._resume(path, content, adjust_lr=adjust_lr, from_last=True)
        if not weight:
            unused = ", ".join(_given(transfer=transfer, no_head=no_head, adjust_lr=adjust_lr))
            level, note = (logging.WARNING, f", so {unused} have no effect") if unused else (logging.INFO, "")
            logger.log(level, "MODEL.WEIGHT is empty%s: training starts from scratch.", note)
            return LoadedState()
        path = pathlib.Path(weight)
        content = read_checkpoint(path)
        if "optimizer" in content and not transfer:
            return self._resume(path, content, adjust_lr=adjust_lr, no_head=no_head)
        report = self._load(path, content, no_head=no_head, new_run=True)
        logger.info(
            "Only the weights of %s are taken (%s): iteration 0, fresh optimizer and schedule.",
            path,
            "--transfer" if transfer else "it holds nothing else to resume from",
        )
        return describe(content, path, report=report, iteration=0)

    def load_for_test(self, *, command_line: str, config: str) -> LoadedState:
        """Loads the weights to test: those of the command line, else `last_checkpoint`'s, else the configuration's.

        Args:
            command_line: MODEL.WEIGHT if it stands on the command line, else "".
            config: MODEL.WEIGHT of the configuration file.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit, or there is none.
        """
        folder, content = self._output_dir, None
        if command_line:
            path, why = pathlib.Path(command_line), "given on the command line"
            if folder is not None and last_checkpoint.named_file(folder) is not None:
                why += f"; {folder / last_checkpoint.NAME} is not used"
        elif folder is not None and (last := last_checkpoint.read_last(folder)) is not None:
            path, content = last
            why = f"from {folder / last_checkpoint.NAME}"
        elif config:
            path, why = pathlib.Path(config), "MODEL.WEIGHT of the configuration file"
        else:
            raise CheckpointError(
                f"there are no weights to test: MODEL.WEIGHT is empty and {folder or '(no OUTPUT_DIR)'} "
                "holds no last_checkpoint. Train first, or give MODEL.WEIGHT path/to/file.pth at the end of the line."
            )
        logger.info("Testing %s (%s)", path, why)
        content = content or read_checkpoint(path)
        report = self._load(path, content, averaged=True)
        if report.missing_elsewhere:
            count = len(report.missing_elsewhere)
            logger.warning(
                "%d tensors of the model are not in %s and keep random values: the results will be poor.", count, path
            )
        return describe(content, path, report=report, iteration=finished_iterations(content, path))

    def _content(self, iteration: int) -> dict[str, Any]:
        """What a test or a new run takes."""
        classes: dict[str, list] = {"ids": list(self._class_ids), "names": list(self._class_names)}
        if self._class_counts:
            classes["counts"] = list(self._class_counts)
        content: dict[str, Any] = {
            "model": self._model.state_dict(),
            "iteration": int(iteration),
            "best": copy.deepcopy(self._best),
            "config": self._config_text,
            "classes": classes,
            "version": __version__,
        }
        if AVERAGED in self._parts:
            content[AVERAGED] = self._parts[AVERAGED].state_dict()
        return content

    def _run_content(self, random_states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What a resumed run takes besides."""
        content: dict[str, Any] = {name: part.state_dict() for name, part in self._parts.items()}
        content["random_states"] = [dict(state) for state in random_states]
        content["data"] = dict(self._facts)
        if self._optimizer is not None:
            content["optimizer"] = self._optimizer.state_dict()
        if self._scheduler is not None:
            content["scheduler"] = self._scheduler.state_dict()
        return content

    def _device(self) -> torch.device:
        tensor = next(self._model.parameters(), None)
        return torch.device("cpu") if tensor is None else tensor.device

    def _load(
        self,
        path: pathlib.Path,
        content: Mapping[str, Any],
        *,
        no_head: bool = False,
        advice: str = "",
        new_run: bool = False,
        averaged: bool = False,
    ) -> LoadReport:
        """Takes the weights, the averaged ones if asked for and there.

        With `new_run` they are asked for, and the last layer may be rearranged: no optimizer's state goes with it.
        """
        theirs = class_names(content)
        classes = None
        if theirs and self._class_names:
            classes = ClassNames(theirs, self._class_names, by_name=self._rows_by_name and new_run)
        weights = averaged_weights(content) if averaged or new_run else {}
        if weights:
            logger.info("Of %s the averaged weights are taken (SOLVER.EMA_DECAY was on in its run).", path)
        report = load_weights(
            self._model, weights or content["model"], source=str(path), no_head=no_head, advice=advice, classes=classes
        )
        logger.info("%s", report.table())
        if report.lacks_person_head:
            logger.warning("%s holds no whole person head (MODEL.ROI_PERSON_HEAD): it has to be trained first.", path)
        if new_run and not no_head:
            self._tell_of_rows(path, classes, report)
        return report

    def _tell_of_rows(self, path: pathlib.Path, classes: ClassNames | None, report: LoadReport) -> None:
        if classes is None:
            if self._rows_by_name:
                logger.warning("%s does not name its classes: %s has no effect, rows go by position.", path, SWITCH)
        elif classes.differ and report.rows is None:
            self._warn_of_classes(path, classes.theirs, advice=f" Rows go by position; by name with {SWITCH} True.")
        elif report.rows is not None and not report.rows.carried:
            logger.warning("%s has no class of the same name: the last layer starts as initialised.", path)

    @staticmethod
    def _tell_of_last(note: pathlib.Path, path: pathlib.Path, weight: str, *, transfer: bool, no_head: bool) -> None:
        unused = [f"MODEL.WEIGHT {weight}"] if weight else []
        unused += _given(transfer=transfer, no_head=no_head)
        logger.warning(
            "%s exists: this run CONTINUES from %s.%s To start afresh delete %s or choose another OUTPUT_DIR.",
            note,
            path,
            f" Not used, because they only start a run: {', '.join(unused)}." if unused else "",
            note,
        )

    def _resume(
        self,
        path: pathlib.Path,
        content: Mapping[str, Any],
        *,
        adjust_lr: bool,
        no_head: bool = False,
        from_last: bool = False,
    ) -> LoadedState:
        """Takes everything from a checkpoint."""
        if no_head:
            logger.warning("--no-head without --transfer: the run is resumed, but with a head as initialised.")
        advice, new_run = "", "To start a new run from its weights add --transfer."
        if from_last:
            new_run = ""  # --transfer has no effect here
            advice = (
                "This OUTPUT_DIR belongs to a run with another configuration: use that one, choose another OUTPUT_DIR, "
                "or delete last_checkpoint to start afresh."
            )
        report = self._load(path, content, no_head=no_head, advice=advice)
        self._warn_of_classes(path, class_names(content))
        if "optimizer" not in content:
            logger.warning("%s holds only weights: iteration 0, fresh optimizer and schedule.", path)
            return describe(content, path, report=report, iteration=0)
        iteration = finished_iterations(content, path)
        if self._optimizer is not None:
            restore_optimizer(self._optimizer, content["optimizer"], source=path, advice=advice or new_run)
        if self._scheduler is not None:
            saved = content.get("scheduler")
            restore_schedule(
                self._scheduler, saved, source=path, iteration=iteration, adjust_lr=adjust_lr, advice=new_run
            )
        restore_parts(self._parts, content, source=path)
        tell_changed_facts(self._facts, content, source=path)
        state = describe(content, path, report=report, iteration=iteration, resumed=True)
        self._best = {name: dict(figures) for name, figures in state.best.items()}
        self._random_states = list(content.get("random_states", ()))
        self.restore_random_state()
        schedule = "this configuration's schedule (--adjust-lr)" if adjust_lr else "its learning rate schedule"
        logger.info("Resumed %s at iteration %d with its optimizer and %s.", path, iteration, schedule)
        return state

    def _warn_of_classes(self, path: pathlib.Path, names: Sequence[object], *, advice: str = "") -> None:
        if names and self._class_names and list(names) != self._class_names:
            differing = next(
                (f"{a!r} and now {b!r}" for a, b in zip(names, self._class_names, strict=False) if a != b),
                f"{len(names)} and now {len(self._class_names)} classes",
            )
            logger.warning("%s was trained with other classes (there %s).%s", path, differing, advice)


def _given(*, transfer: bool, no_head: bool, adjust_lr: bool = False) -> list[str]:
    """The flags that are set, as on the command line."""
    flags = {"--transfer": transfer, "--no-head": no_head, "--adjust-lr": adjust_lr}
    return [flag for flag, is_set in flags.items() if is_set]
