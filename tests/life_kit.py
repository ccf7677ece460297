"""Runs of train_net.py that are killed and started again, and whether they end as one that nobody touched.

The processes are forked from one that has loaded the libraries (see process_kit), so that a start takes a moment.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import process_kit
import run_kit
import torch
from process_kit import Member

IA = "MODEL.IA_STRUCTURE."
#: Twelve iterations, a checkpoint after each third, a validation after each fourth.
LENGTHS = [
    *["SOLVER.MAX_ITER", 12, "SOLVER.STEPS", (9,), "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.EVAL_PERIOD", 4],
    *["TEST.NUM_PICTURES", 0],
]
MEMORY = [
    *[IA + "ACTIVE", True, IA + "DIM_IN", 576, IA + "DIM_INNER", 16, IA + "DIM_OUT", 16, IA + "LENGTH", (2, 2)],
    *[IA + "MAX_PERSON", 3, IA + "MAX_PER_SEC", 1, IA + "MEMORY_STEP", 0.5, IA + "I_BLOCK_LIST", ["P", "M"]],
    *[IA + "USE_ZERO_INIT_CONV", False, IA + "LAYER_NORM", True, IA + "DROPOUT", 0.2],
]
MORE = [
    *["SOLVER.EMA_DECAY", 0.9, "SOLVER.ACCUMULATION_STEPS", 2, "SOLVER.MAX_GRAD_NORM", 1.0],
    *["SOLVER.KEEP_BEST", True, "SOLVER.KEEP_CHECKPOINTS", 2],
]
WORKERS = ["DATALOADER.NUM_WORKERS", 2]
TWO = ["SOLVER.VIDEOS_PER_BATCH", 4, "TEST.VIDEOS_PER_BATCH", 2, "DISTRIBUTED.DEAD_AFTER", 20.0]

# The data loading processes are forked, too: this process's own start method would load all libraries in each of them.
_CODE = """
import multiprocessing, runpy, sys
multiprocessing.set_start_method("fork", force=True)
sys.path.insert(0, {root!r})
from alphaction.utils import watch
watch.PERIOD = 0.2  # seconds: who is left notices sooner
{before}
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        name: for people.
        opts: keys and values.
        size: number of processes.
    """

    name: str
    opts: list = field(default_factory=list)
    size: int = 1


PLAIN = Kind("plain")
KINDS = (
    PLAIN,
    Kind("with memory", MEMORY),
    Kind("2 workers, averaged weights, accumulation", [*WORKERS, *MORE]),
    Kind("2 processes with memory, averaged weights", [*TWO, *MEMORY, *MORE[:2]], size=2),
)


class Life:
    """A run in `folder`, from start to start."""

    def __init__(self, config: pathlib.Path, folder: pathlib.Path, kind: Kind, *opts: object) -> None:
        self.folder = folder
        self._argv = [str(run_kit.ROOT / "train_net.py"), "--config-file", str(config)]
        self._opts = [*map(str, [*LENGTHS, *kind.opts, *opts])]
        self.kind = kind
        self._starts = 0

    @contextlib.contextmanager
    def start(self, *opts: object, before: str = "") -> Iterator[list[Member]]:
        """The processes of the command; they are ended with the block.

        Args:
            before: code that each process runs first.
        """
        self._starts += 1
        output = self.folder.parent / f"{self.folder.name}_start{self._starts}"
        output.mkdir(parents=True)
        code = _CODE.format(root=str(run_kit.ROOT), before=before, argv=self.command(*opts))
        with process_kit.start(code, self.kind.size, output) as members:
            yield members

    def command(self, *opts: object) -> list[str]:
        """Script and arguments."""
        return [*self._argv, *self._opts, *map(str, opts), "OUTPUT_DIR", str(self.folder)]

    def run(self, *opts: object, before: str = "") -> tuple[list[int], str]:
        """Runs the command to its end: exit statuses of the processes, and what they wrote, one after the other."""
        with self.start(*opts, before=before) as members:
            return [member.ends() for member in members], "\n".join(member.text for member in members)

    def finish(self) -> str:
        """The same command once more, which has to succeed; what its processes wrote."""
        statuses, text = self.run()
        assert not any(statuses), text
        return text

    @property
    def last(self) -> int:
        """The iteration that `last_checkpoint` names; 0 without one."""
        note = self.folder / "last_checkpoint"
        if not note.is_file():
            return 0
        number = re.search(r"\d+", note.read_text())
        return int(number[0]) if number else int(self.result()["iteration"])

    def result(self) -> dict:
        """The content of `model_final.pth`."""
        return torch.load(self.folder / "model_final.pth", weights_only=True)


def difference(ours: Life, theirs: Life) -> str:
    """The first entry of the final checkpoints that is not the same bit for bit; "" if there is none."""
    a, b = ours.result(), theirs.result()
    for name in sorted(a.keys() | b.keys()):
        if not _same(a.get(name), b.get(name)) and name != "config":  # it holds OUTPUT_DIR
            return name
    return ""


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


def killed_in_step(iteration: int, *, rank: int = 0) -> str:
    """Code after which the process is killed in the middle of an iteration."""
    return f"""
import os, signal
from alphaction.engine.step import TrainStep
step = TrainStep.__call__
def killed(*args, **options):
    if options["iteration"] == {iteration} and os.environ["RANK"] == "{rank}":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args, **options)
TrainStep.__call__ = killed
"""


def killed_in_save(iteration: int) -> str:
    """Code after which the process is killed when the first half of this iteration's checkpoint is on the disk."""
    return f"""
import io, os, signal, torch
save = torch.save
def killed(content, file, *args, **options):
    if isinstance(content, dict) and content.get("iteration") == {iteration} and "optimizer" in content:
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return save(content, file, *args, **options)
torch.save = killed
"""


def killed_before_note(iteration: int) -> str:
    """Code after which the process is killed when the checkpoint is written and `last_checkpoint` is not."""
    return f"""
import os, signal
from alphaction.checkpoint import last_checkpoint
write = last_checkpoint.write
def killed(folder, *, file):
    if file.name == "model_{iteration:07d}.pth":
        os.kill(os.getpid(), signal.SIGKILL)
    write(folder, file=file)
last_checkpoint.write = killed
"""


def signalled(number: int, *, iteration: int = 0, in_test: int = 0, rank: int = 0) -> str:
    """Code after which the process gets a signal in an iteration, or in the so-many-th validation or test."""
    return f"""
import os
from alphaction.engine.step import TrainStep
from alphaction.engine.testing.build import Tester
step, test, tests = TrainStep.__call__, Tester.run, []
def signalled_step(*args, **options):
    if options["iteration"] == {iteration} and os.environ["RANK"] == "{rank}":
        os.kill(os.getpid(), {number})
    return step(*args, **options)
def signalled_test(*args, **options):
    tests.append(args)
    if len(tests) == {in_test} and os.environ["RANK"] == "{rank}":
        os.kill(os.getpid(), {number})
    return test(*args, **options)
TrainStep.__call__, Tester.run = signalled_step, signalled_test
"""
