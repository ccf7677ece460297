import logging
import os
import pathlib
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

# The recorded numbers were made with one thread; the order of sums depends on it. And threads that wait for a core that
# another program uses make small networks ten times slower. Here, before any library starts its threads: fixtures of
# modules and processes that tests start are concerned as well.
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402

import alphaction.utils.script_start  # noqa: E402, F401 (changes what Ctrl-C does, once: not amid the tests)

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where pytest was started with nohup or &
# The same examples in every run, however slow the machine is; `--hypothesis-profile=default` draws others.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")
sys.path.insert(0, str(pathlib.Path(__file__).parent))  # `import goldens`


_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGPIPE") if hasattr(signal, name)]
_HANDLERS = {number: signal.getsignal(number) for number in _SIGNALS}


@pytest.fixture(autouse=True)
def _as_before():
    """Takes back what scripts that a test runs here change for their whole process.

    With another handling of SIGPIPE a later test that writes to a process which has gone would end pytest, silently.
    With a log that goes to the terminal alone `caplog` would see records twice, or not at all.
    """
    logger = logging.getLogger("alphaction")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)
    torch.set_num_threads(1)
    for number, handler in _HANDLERS.items():  # none where it was not set from Python
        if handler is not None:
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The configuration of a very small run on a data set of three videos (`run_kit`)."""
    import run_kit

    folder = tmp_path_factory.mktemp("tiny")
    return run_kit.write_config(folder / "tiny.yaml", run_kit.write_dataset(folder))
