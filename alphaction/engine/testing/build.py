"""Testing as the configuration says: the model over a data set, with a memory where needed, and the evaluation."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from yacs.config import CfgNode

from alphaction.dataset import ActionDataset, build_loader
from alphaction.engine.evaluate import EvalResult, ReportFacts, evaluate_dataset, result_folder
from alphaction.engine.memory import PersonMemory, check_memory
from alphaction.engine.predict import gathered, predict, predict_with_memory
from alphaction.errors import ConfigError
from alphaction.modeling import action_groups, build_postprocess
from alphaction.modeling.detector import ActionDetector
from alphaction.structures import FeatureMemory, MemorySpan, Predictions
from alphaction.utils.device import has_bfloat16
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.watch import note

logger = logging.getLogger(__name__)


class Tester:
    """Runs the model over a data set and evaluates what it said.

    Args:
        facts: for the report of a test.

    Raises:
        ConfigError: the device cannot compute as TEST.PRECISION says.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: ActionDetector,
        device: torch.device,
        *,
        facts: ReportFacts | None = None,
        processes: Processes = ALONE,
    ) -> None:
        check_test_precision(cfg.TEST.PRECISION, device)
        self._cfg = cfg
        self._facts = facts or ReportFacts()
        self._processes = processes
        self._model = model
        self._device = device
        self._postprocess = build_postprocess(cfg)

    def run(
        self,
        dataset: ActionDataset,
        *,
        quiet: bool = False,
        explained: bool = False,
        should_stop: Callable[[], int] | None = None,
    ) -> EvalResult:
        """Predicts, evaluates, writes the result files.

        Every process predicts its share and gets the result; process 0 evaluates and writes.

        Args:
            quiet: a validation: no table, pictures or report, of every TEST.EVERY_N-th keyframe only.
            explained: say where predictions are lost, however high the mAP is.
            should_stop: number of the signal that asks this process to stop, 0 = none.

        Raises:
            Interrupted: a process was asked to stop before all was predicted.
        """
        cfg, processes = self._cfg, self._processes
        facts = None if quiet else self._facts
        if facts is not None and cfg.TEST.BOXES == "both":
            others = "those of the person head" if dataset.finds_persons else "the detected ones"
            logger.info("%s: first with the true boxes, then with %s (TEST.BOXES both)", dataset.name, others)
            true_set = dataset.with_true_persons()
            predictions = self._predicted(true_set, should_stop=should_stop)
            upper = processes.on_main(partial(self._evaluated, predictions, true_set, facts=facts))
            facts = replace(facts, upper=upper)
        every_n = cfg.TEST.EVERY_N if quiet else 1
        tested = dataset if every_n == 1 else dataset.every(every_n)
        predictions = self._predicted(tested, should_stop=should_stop)
        result = processes.on_main(
            partial(self._evaluated, predictions, tested, facts=facts, explained=explained, every_n=every_n)
        )
        logger.info("%s", result.summary() if quiet else result.table())
        tell_unreadable(tested, processes=processes)
        if not quiet:
            folder = result_folder(cfg.OUTPUT_DIR, dataset.name)
            logger.info("Table, scores and rows: %s", folder)
            logger.info("To look at, in a browser: %s", folder / "report.html")
        return result

    def _predicted(self, dataset: ActionDataset, *, should_stop: Callable[[], int] | None) -> Predictions:
        """Of all processes, in process 0."""
        cfg, processes = self._cfg, self._processes
        loader = build_loader(cfg, dataset, train=False, rank=processes.rank, world_size=processes.size)
        memory = build_memory(cfg, self._model, dataset, self._device, processes=processes)
        passes = predict if memory is None else partial(predict_with_memory, memory=memory)
        share = passes(
            self._model,
            loader,
            self._postprocess,
            self._device,
            finds_persons=dataset.finds_persons,
            processes=processes,
            should_stop=should_stop,
        )
        predictions = gathered(share, processes)
        note(f"evaluation of {dataset.name}")
        return predictions

    def _evaluated(
        self,
        predictions: Predictions,
        dataset: ActionDataset,
        *,
        facts: ReportFacts | None,
        explained: bool = False,
        every_n: int = 1,
    ) -> EvalResult:
        cfg = self._cfg
        return evaluate_dataset(
            predictions,
            dataset,
            pathlib.Path(cfg.OUTPUT_DIR),
            protocol=cfg.TEST.PROTOCOL,
            iou_threshold=tuple(dict.fromkeys((cfg.TEST.IOU_THRESH, *cfg.TEST.IOU_THRESHOLDS))),
            with_coco=cfg.TEST.COCO_METRICS and facts is not None,
            with_video_map=cfg.TEST.VIDEO_MAP and facts is not None,
            action_threshold=cfg.TEST.ACTION_THRESH,
            groups=action_groups(cfg),
            num_pictures=0 if facts is None else cfg.TEST.NUM_PICTURES,
            explained=explained,
            every_n=every_n,
            report=facts,
        )


def check_test_precision(name: str, device: torch.device, *, what: str = "Tests and validations") -> None:
    """Checks TEST.PRECISION, and tells of one that is not float32.

    Args:
        name: the key's value.
        what: who computes in it, for the log.

    Raises:
        ConfigError: the device cannot compute in this precision, or is slower than in float32.
    """
    if name == "float32":
        return
    if name == "float16" and device.type == "cpu":
        raise ConfigError(
            "TEST.PRECISION: got float16, in which processors compute more slowly; expected bfloat16 or float32"
        )
    if name == "bfloat16" and not has_bfloat16(device):
        raise ConfigError(
            f"TEST.PRECISION: got bfloat16, which {torch.cuda.get_device_name(device)} cannot do; expected float16 or "
            "float32"
        )
    logger.info("%s compute the backbone in %s (TEST.PRECISION)", what, name)


def build_memory(
    cfg: CfgNode,
    model: ActionDetector,
    dataset: ActionDataset,
    device: torch.device,
    *,
    processes: Processes = ALONE,
) -> PersonMemory | None:
    """An empty memory for the persons of a data set; None for a model without M blocks.

    Raises:
        ConfigError: the data set has nothing to remember, or (when testing) it does not fit.
    """
    if not model.needs_memory:
        return None
    node, training = cfg.MODEL.IA_STRUCTURE, dataset.is_training
    before, after = node.LENGTH
    span = MemorySpan(before=before, after=after, rate=node.MEMORY_RATE, persons=node.MAX_PER_SEC)
    store = FeatureMemory(
        node.DIM_IN,
        step=node.MEMORY_STEP,
        dtype=getattr(torch, node.MEMORY_DTYPE) if training else torch.float32,
        max_bytes=node.MEMORY_LIMIT_MB * 2**20,
    )
    check_memory(dataset, store, span)
    return PersonMemory(
        store,
        span,
        key_of=dataset.annotations.key,
        device=device,
        penalty=training and node.PENALTY,
        random_choice=training or cfg.QUIRKS.RANDOM_CHOICE_IN_TEST,
        gather=processes.gather_rows,
    )


def tell_unreadable(dataset: ActionDataset, *, processes: Processes = ALONE) -> None:
    """The total over all processes; each clip was named when it was met."""
    count = len(set().union(*processes.gather(dataset.unreadable)))  # in training several may have met the same clip
    if count and processes.is_main:
        logger.warning(
            "%s: %d of %d clips could not be read and were left out (DATASETS.ON_ERROR skip)",
            dataset.name, count, len(dataset),
        )  # fmt: skip
