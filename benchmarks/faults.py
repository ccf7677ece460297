"""What runs survive: trains, breaks, starts again, and compares the final weights with an untouched run's bit by bit.

    python benchmarks/faults.py [--kills 20] [--only save disk ...] [--seed 0]

Tiny generated videos and a tiny network in a temporary folder; on the processor, some ten minutes on one core. The
processes are forked from one that has loaded the libraries, everything else is train_net.py as users run it. Prints a
table for docs/TRAINING.md. Exit status 1 if any fault did harm.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / place) for place in (".", "tests")]

import life_kit  # noqa: E402
import process_kit  # noqa: E402
import run_kit  # noqa: E402
import torch  # noqa: E402
from life_kit import KINDS, PLAIN, WORKERS, Kind, Life, difference  # noqa: E402

MEMORY, WITH_WORKERS, TWO = KINDS[1:]
DEAD_AFTER = 5.0  # seconds, as the kind of two processes has it
ALLOWED = DEAD_AFTER + 15.0  # seconds that the other processes may take to end: DEAD_AFTER, and a busy machine


@dataclass
class Count:
    """A row of the table."""

    fault: str
    tried: int = 0
    good: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """One more try; "" = it went well."""
        self.tried += 1
        self.good += not problem
        if problem:
            self.remarks.append(problem)


class Campaign:
    """Makes runs in `folder` and counts how they end."""

    def __init__(self, folder: pathlib.Path, *, kills: int, seed: int) -> None:
        self.folder = folder
        self.kills = kills
        self.random = random.Random(seed)
        self.rows: list[Count] = []
        self.config = run_kit.write_config(folder / "tiny.yaml", run_kit.write_dataset(folder / "set"))
        self._untouched: dict[str, tuple[Life, float]] = {}
        self._lives = 0

    def row(self, fault: str) -> Count:
        self.rows.append(Count(fault))
        print(f"[{time.strftime('%H:%M:%S')}] {fault} ...", flush=True)
        return self.rows[-1]

    def life(self, kind: Kind, *, folder: pathlib.Path | None = None) -> Life:
        self._lives += 1
        return Life(self.config, folder or self.folder / f"run{self._lives}", kind)

    def untouched(self, kind: Kind) -> tuple[Life, float]:
        """A run of this kind that nobody disturbed, and its seconds."""
        if kind.name not in self._untouched:
            life = self.life(kind)
            life.run("SOLVER.MAX_ITER", 1)  # the first start loads the libraries
            shutil.rmtree(life.folder)
            started = time.monotonic()
            life.finish()
            self._untouched[kind.name] = life, time.monotonic() - started
        return self._untouched[kind.name]

    def compare(self, life: Life, *words: str) -> str:
        """Starts the run for the last time; what is wrong then: "" if it ends as the untouched one."""
        try:
            text = life.finish()
        except AssertionError as failed:
            return f"does not go on: {str(failed)[-400:]}"
        missing = [each for each in words if each not in text]
        if missing:
            return f"does not say {missing}"
        other = difference(life, self.untouched(life.kind)[0])
        return f"differs in {other!r}" if other else ""


def random_kills(campaign: Campaign) -> None:
    """SIGKILL at any moment of the run: while it starts, trains, saves, validates, tests."""
    for i, kind in enumerate(KINDS):
        row = campaign.row(f"SIGKILL at a random moment, run {kind.name}")
        wanted = campaign.kills // len(KINDS) + (i < campaign.kills % len(KINDS))
        life, killed = campaign.life(kind), 0
        _, seconds = campaign.untouched(kind)
        reached, last = [], []
        while killed < wanted:
            problem = ""
            with life.start() as members:
                time.sleep(campaign.random.uniform(0.2, 0.95) * seconds)
                victim = campaign.random.choice(members)
                if victim.process.is_alive():
                    victim.kill()
                    killed += 1
                    problem = _others_end(members, victim)
                else:  # the run was faster: the next one begins anew
                    problem = campaign.compare(life)
                    life = campaign.life(kind)
                    continue
            reached.append(str(life.last))
            if problem or killed % 4 == 0 or killed == wanted:  # at most four kills before a run may end
                problem = problem or campaign.compare(life)
                for _ in range(len(reached)):
                    row.add(problem)
                last += reached
                life, reached = campaign.life(kind), []
        row.remarks.append(f"last checkpoint at the kills: {', '.join(last)}")


def kills_in_save(campaign: Campaign) -> None:
    """SIGKILL with half a checkpoint on the disk, and between a checkpoint and the note of it."""
    for kind in (MEMORY, TWO):
        for fault, code in (
            ("half a file written", life_kit.killed_in_save),
            ("file written, last_checkpoint not", None),
        ):
            row = campaign.row(f"SIGKILL while saving: {fault}; run {kind.name}")
            life, problems = campaign.life(kind), []
            for iteration in (3, 6, 9, 12):
                before = (code or life_kit.killed_before_note)(iteration)
                statuses, _ = life.run(before=before)
                problems.append("" if -signal.SIGKILL in statuses else f"iteration {iteration} was not hit")
            problem = campaign.compare(life)
            for each in problems:
                row.add(each or problem)


def full_disk(campaign: Campaign) -> None:
    """No room for the second checkpoint."""
    row = campaign.row("disk full while saving (a write fails: limit of the file size)")
    for kind in (PLAIN, TWO):
        life = campaign.life(kind)
        statuses, text = life.run(before=_small_files(after=5))
        ended = set(statuses) == {1} and text.count("error: ") == 1 and "could not be written" in text
        whole = life.last == 3
        row.add(("" if ended and whole else f"statuses {statuses}: {text[-300:]}") or campaign.compare(life))
    with _small_disk(campaign.folder / "disk") as disk:
        if disk is None:
            row.remarks.append("no tmpfs could be mounted here")
            return
        row = campaign.row("disk full while saving (a tmpfs of 9 MB)")
        life = campaign.life(PLAIN, folder=disk / "run")
        statuses, text = life.run()
        ended = statuses == [1] and "No space left on device" in text
        row.add("" if ended and life.last == 3 else f"status {statuses}, checkpoint {life.last}: {text[-300:]}")
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        row.add(campaign.compare(life))


def corrupt_checkpoints(campaign: Campaign) -> None:
    """The file that last_checkpoint names is not whole: the one before takes its place."""
    broken = campaign.life(PLAIN)
    broken.run(before=life_kit.killed_in_step(8))
    for fault, damage in _DAMAGES.items():
        row = campaign.row(f"last checkpoint {fault}")
        life = campaign.life(PLAIN)
        shutil.copytree(broken.folder, life.folder)
        damage(life.folder)
        row.add(campaign.compare(life, "names a checkpoint that cannot be used", "Using the newest whole checkpoint"))


def killed_workers(campaign: Campaign) -> None:
    """A data loading process dies."""
    row = campaign.row("data loading process killed")
    kind = Kind("2 workers", WORKERS)
    for iteration in (2, 5, 8, 11):
        life = campaign.life(kind)
        code = life_kit.killed_in_step(iteration)
        code = code.replace("os.kill(os.getpid()", "os.kill(multiprocessing.active_children()[0].pid")
        statuses, text = life.run(before=f"import multiprocessing\n{code}")
        told = statuses == [1] and text.count("error: ") == 1 and "Traceback" not in text
        row.add(("" if told else f"status {statuses}: {text[-300:]}") or campaign.compare(life))


def lost_ranks(campaign: Campaign) -> None:
    """One of two processes dies or hangs."""
    for fault, number in (("killed", signal.SIGKILL), ("stopped (SIGSTOP: it hangs)", signal.SIGSTOP)):
        row, waited = campaign.row(f"one of 2 processes {fault}"), []
        for rank in (0, 1):
            life = campaign.life(TWO)
            with life.start(before=life_kit.signalled(int(number), iteration=5, rank=rank)) as members:
                other = members[1 - rank]
                members[rank].says("iteration 4/12") if rank == 0 else other.says("iteration 4/12")
                started = time.monotonic()
                status = other.ends()
                waited.append(time.monotonic() - started)
                told = status == 1 and f"process {rank}" in other.text and other.text.count("error: ") == 1
            problem = "" if told else f"the other ends with {status}: {other.text[-300:]}"
            if waited[-1] > ALLOWED:
                problem = f"the other took {waited[-1]:.0f} s to end"
            row.add(problem or campaign.compare(life))
        row.remarks.append(f"the other ends after {' and '.join(f'{each:.1f}' for each in waited)} s, naming it")


def asked_to_stop(campaign: Campaign) -> None:
    """SIGTERM and Ctrl-C in turn, every few iterations of one run."""
    for kind in (WITH_WORKERS, TWO):
        row = campaign.row(f"SIGTERM, Ctrl-C again and again in one run, {kind.name}")
        life, problems, stops = campaign.life(kind), [], []
        while life.last < 10:
            number = (signal.SIGTERM, signal.SIGINT)[len(stops) % 2]
            iteration = life.last + campaign.random.randint(1, 3)
            rank = campaign.random.randrange(kind.size)
            statuses, text = life.run(before=life_kit.signalled(int(number), iteration=iteration, rank=rank))
            good = set(statuses) == {128 + number} and life.last == iteration
            problems.append("" if good else f"ended with {statuses} at {life.last}: {text[-300:]}")
            stops.append(str(iteration))
            if not good:
                break
        problem = campaign.compare(life)
        for each in problems:
            row.add(each or problem)
        row.remarks.append(f"after iterations {', '.join(stops)}")


def stopped_launcher(campaign: Campaign) -> None:
    """torchrun gets SIGTERM and passes it on."""
    row = campaign.row("SIGTERM to torchrun with 2 processes")
    for _ in range(2):
        life = campaign.life(TWO)
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={process_kit.free_port()}"]
        figures, started = life.folder / "metrics.jsonl", time.monotonic()
        with subprocess.Popen(
            [sys.executable, *launcher, *life.command()], cwd=run_kit.ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONPATH": str(run_kit.ROOT)},
        ) as process:  # fmt: skip
            while not _has_text(figures) and process.poll() is None and time.monotonic() - started < 200:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            text = process.communicate()[0]
        told = "The same command goes on from there." in text and life.last > 0
        row.add(("" if told else f"last checkpoint {life.last}: {text[-300:]}") or campaign.compare(life))


def stopped_tests(campaign: Campaign) -> None:
    """SIGTERM while a validation or the final test runs."""
    for place, number, words in (
        ("the first validation", 1, "Validation at iteration 4, which the interrupted run did not finish"),
        ("the second validation", 2, "Validation at iteration 8, which the interrupted run did not finish"),
        ("the final test", 3, "Nothing left to train"),
    ):
        for kind in (MEMORY, TWO):
            row = campaign.row(f"SIGTERM during {place}, run {kind.name}")
            life = campaign.life(kind)
            before = life_kit.signalled(int(signal.SIGTERM), in_test=number, rank=kind.size - 1)
            statuses, text = life.run(before=before)
            problem = "" if set(statuses) == {143} else f"ended with {statuses}: {text[-300:]}"
            row.add(problem or campaign.compare(life, words))


FAULTS: dict[str, Callable[[Campaign], None]] = {
    "kill": random_kills,
    "save": kills_in_save,
    "disk": full_disk,
    "corrupt": corrupt_checkpoints,
    "worker": killed_workers,
    "rank": lost_ranks,
    "stop": asked_to_stop,
    "launcher": stopped_launcher,
    "test": stopped_tests,
}


def _others_end(members: list, victim: object) -> str:
    """What is wrong with how the other processes end after one was killed."""
    started = time.monotonic()
    for member in members:
        if member is not victim:
            member.ends()
    seconds = time.monotonic() - started
    return f"the others took {seconds:.0f} s to end" if seconds > ALLOWED else ""


def _has_text(path: pathlib.Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _small_files(*, after: int) -> str:
    """Code after which files larger than 100 KB cannot be written from this iteration on."""
    return f"""
import resource
from alphaction.engine.step import TrainStep
step = TrainStep.__call__
def limited(*args, **options):
    if options["iteration"] == {after}:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    return step(*args, **options)
TrainStep.__call__ = limited
"""


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path) -> Iterator[pathlib.Path | None]:
    """A file system of 9 MB, less than two checkpoints; None where none can be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def _truncate(folder: pathlib.Path) -> None:
    path = folder / "model_0000006.pth"
    os.truncate(path, path.stat().st_size // 3)


def _flip(folder: pathlib.Path) -> None:
    """One bit in the middle, which is a weight."""
    path = folder / "model_0000006.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


_DAMAGES: dict[str, Callable[[pathlib.Path], object]] = {
    "truncated": _truncate,
    "with one bit flipped": _flip,
    "empty": lambda folder: (folder / "model_0000006.pth").write_bytes(b""),
    "missing": lambda folder: (folder / "model_0000006.pth").unlink(),
    "not named (last_checkpoint is empty)": lambda folder: (folder / "last_checkpoint").write_text(""),
}


def table(rows: list[Count]) -> str:
    lines = ["| fault | tried | same weights as untouched | remark |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {row.fault} | {row.tried} | {row.good} | {'; '.join(row.remarks)} |" for row in rows]
    total = sum(row.tried for row in rows)
    return "\n".join([*lines, f"| **all** | **{total}** | **{sum(row.good for row in rows)}** | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Breaks training runs and looks at what becomes of them.")
    parser.add_argument("--kills", type=int, default=20, help="random SIGKILLs, over all kinds of runs (default 20)")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), help="these faults only")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default 0)")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        campaign = Campaign(pathlib.Path(folder), kills=args.kills, seed=args.seed)
        for name in args.only:
            FAULTS[name](campaign)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    print(f"\n{' '.join(sys.argv)}: {time.strftime('%Y-%m-%d')}, {machine}, {time.monotonic() - started:.0f} s\n")
    print(table(campaign.rows))
    sys.exit(any(row.good < row.tried for row in campaign.rows))


if __name__ == "__main__":
    main()
