"""The first seconds of every script, in which PyTorch is imported. Here another module stands in for it."""

import os
import signal
import subprocess
import sys

import pytest
from run_kit import ROOT

from alphaction.engine.script import run_script

SCRIPTS = [
    *("train_net.py", "test_net.py", "predict.py", "demo/demo.py"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tools").rglob("*.py")),
]
_TORCH = """
import os, time
print("importing", os.environ.get("TORCH_CPP_LOG_LEVEL"), flush=True)
time.sleep(100)
"""


@pytest.fixture(scope="module")
def importing(tmp_path_factory):
    """Starts a script that then is amid the import of PyTorch."""
    folder = tmp_path_factory.mktemp("stand_in")
    (folder / "torch.py").write_text(_TORCH)
    started = []

    def importing(script, **environment):
        given = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "TORCH_CPP_LOG_LEVEL")}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / script)],
            env=given | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])} | environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where these tests ignore it (nohup)
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield importing
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_every_script_without_a_traceback(importing):
    for script, process in [(script, importing(script)) for script in SCRIPTS]:
        assert process.stdout.readline() == "importing None\n", (script, process.stderr.read())
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out, errors) == (-signal.SIGINT, "", ""), script  # 130 in a shell


def test_of_several_processes_pytorch_tells_errors_only(importing):
    for environment, level in (
        ({"WORLD_SIZE": "2"}, "ERROR"),
        ({"WORLD_SIZE": "2", "TORCH_CPP_LOG_LEVEL": "INFO"}, "INFO"),
    ):
        assert importing("train_net.py", **environment).stdout.readline() == f"importing {level}\n"


def test_the_script_itself_hears_ctrl_c_again():
    handlers = []
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        run_script(lambda: handlers.append(signal.getsignal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert handlers == [signal.default_int_handler]
