"""Long computations of several tests of a file, two at a time: machines of two cores are usual.

Not for trainings: PyTorch refuses a backward pass in a process forked from one whose autograd has started its threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest


@contextlib.contextmanager
def computed(
    compute: Callable[..., object], request: pytest.FixtureRequest, test: str
) -> Iterator[Callable[..., object]]:
    """The results of `compute` by its arguments, each made in a process of its own, begun with the block.

    Args:
        compute: called with the parameters of a test, in the order of their names; what it raises is raised again
            where the result is asked for.
        request: of a fixture of the test's module.
        test: name of the test; of its parameters those count that are asked for in this session.
    """
    chosen = [item for item in request.session.items if item.path == request.path and item.originalname == test]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:
        futures: dict[tuple, Future] = {}
        for item in chosen:
            arguments = tuple(value for _, value in sorted(item.callspec.params.items()))
            futures[arguments] = pool.submit(compute, *arguments)
        try:
            yield lambda *arguments: futures[arguments].result()
        finally:
            pool.shutdown(cancel_futures=True)  # what nobody asks for any more, after -x or Ctrl-C
