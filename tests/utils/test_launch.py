"""What a launcher may tell, and what is said when it tells nonsense."""

import argparse
import os
import re
import socket

import process_kit
import pytest
import run_kit

from alphaction.engine.script import add_common_arguments
from alphaction.errors import ConfigError
from alphaction.utils.launch import Launch, connected, processes_of_this_machine, read_launch

WHOLE = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


def test_the_variables_of_every_launcher():
    assert read_launch(WHOLE) == Launch(rank=3, size=4, local_rank=1, address="node0", port=29500)


@pytest.mark.parametrize(
    "env", [{}, {"WORLD_SIZE": "1"}, WHOLE | {"WORLD_SIZE": "1", "RANK": "0"}, {"LOCAL_RANK": "0"}]
)
def test_one_process(env):
    assert read_launch(env) == Launch()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": ""}, "WORLD_SIZE 4, LOCAL_RANK 1, .*: for several processes RANK must be set as well"),
        ({"WORLD_SIZE": ""}, "for several processes WORLD_SIZE must be set as well"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "MASTER_ADDR, MASTER_PORT must be set as well"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK must be set as well"),
        ({"WORLD_SIZE": "four"}, "WORLD_SIZE is 'four', expected a whole number, 1 or more"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', expected a whole number, 1 or more"),
        ({"RANK": "-1"}, "RANK is '-1', expected a whole number, 0 or more"),
        ({"RANK": "4"}, "RANK is 4, expected 0 to 3, since WORLD_SIZE is 4"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK is 4, expected at most RANK, which is 3"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT is 99999, expected 1 to 65535"),
        ({"WORLD_SIZE": "", "RANK": ""}, "LOCAL_RANK is 1, but WORLD_SIZE and RANK are not set"),
    ],
)
def test_an_inconsistent_environment_is_one_message(change, words):
    with pytest.raises(ConfigError, match=words) as raised:
        read_launch(WHOLE | change)
    assert "torchrun" in str(raised.value) or "MASTER_PORT" in str(raised.value)


@pytest.fixture(autouse=True)
def _own_log():
    with run_kit.own_state():
        yield


def launched(monkeypatch, *, rank, port):
    for name, value in (WHOLE | {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    return read_launch()


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        words = rf"MASTER_PORT {port} on this machine is taken by another program, .* --master_port={port + 1}"
        launch = launched(monkeypatch, rank=0, port=port)
        with pytest.raises(ConfigError, match=words), connected(launch, patience=5):
            pass


def test_process_0_cannot_be_reached(monkeypatch):
    port = process_kit.free_port()
    words = f"process 1 cannot reach process 0 at MASTER_ADDR 127.0.0.1, MASTER_PORT {port}, within 1 s"
    launch = launched(monkeypatch, rank=1, port=port)
    with pytest.raises(ConfigError, match=re.escape(words)), connected(launch, patience=1):
        pass


@pytest.mark.parametrize("spelling", ["--local_rank=1", "--local-rank=1"])
@pytest.mark.parametrize("told", ["", "3"], ids=["by the flag alone", "by the environment as well"])
def test_both_spellings_of_the_launchers_flag(monkeypatch, spelling, told):
    monkeypatch.setenv("LOCAL_RANK", told)
    if not told:
        monkeypatch.delenv("LOCAL_RANK")
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    parser.parse_intermixed_args([spelling, "--config-file", "my.yaml", "OUTPUT_DIR", "out"])
    assert os.environ["LOCAL_RANK"] == (told or "1")


def test_processes_of_this_machine(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert processes_of_this_machine() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert processes_of_this_machine() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "three")
    with pytest.raises(ConfigError, match="LOCAL_WORLD_SIZE is 'three', expected a whole number, 1 or more"):
        processes_of_this_machine()
