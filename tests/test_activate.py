"""activate_uv_env.sh, on a copy of the project with a stand-in for uv that installs stub modules: quick and offline."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = "activate_uv_env.sh"
SHELLS = [shell for shell in ("bash", "zsh") if shutil.which(shell)]
PYTHON = os.path.realpath(sys.executable)

pytestmark = pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="needs bash")

FAKE_UV = r"""#!/usr/bin/env bash
echo "begin $*" >>"$FAKE_LOG"
env | grep -E '^(SSL_CERT_FILE|HTTPS_PROXY)=' >>"$FAKE_LOG"
[ -n "$FAKE_SLEEP" ] && sleep "$FAKE_SLEEP"
while [ -n "$FAKE_GATE" ] && [ ! -e "$FAKE_GATE" ]; do sleep 0.05; done
[ -n "$FAKE_FAIL" ] && { echo "$FAKE_FAIL" >&2; exit 2; }
while [ "$1" != --python ]; do shift; done
site=$("$2" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
case "$*" in
    *opencv-python-headless==*) echo >"$site/cv2.py" ;;
    *requirements.txt*)
        for name in av numpy yacs alphaction; do echo >"$site/$name.py"; done
        echo 'zeros = lambda *sizes: None' >"$site/torch.py"
        echo "class ops: nms = ${FAKE_NMS:-print}" >"$site/torchvision.py"
        echo "$FAKE_CV2" >"$site/cv2.py"
        mkdir -p "$site/opencv_python-4.9.0.1.dist-info"
        printf 'Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.9.0.1\n' \
            >"$site/opencv_python-4.9.0.1.dist-info/METADATA"
        ;;
esac
echo "Installed 7 packages in 1ms"
echo "end" >>"$FAKE_LOG"
"""


class Project:
    """A copy of what the script needs, in a folder with a space in its name, and a PATH with python3 and uv."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = folder / "my project"
        self.bin = folder / "bin"
        self.log = folder / "uv.log"
        self.root.mkdir()
        self.bin.mkdir()
        (folder / "home").mkdir()
        shutil.copy(ROOT / SCRIPT, self.root)
        (self.root / "requirements.txt").write_text("torch\n")
        (self.root / "setup.py").write_text("")
        self.program("python3", f'#!/bin/sh\nexec "{PYTHON}" "$@"\n')
        self.program("uv", FAKE_UV)
        self.env = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(folder / "home"), "FAKE_LOG": str(self.log)}

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, commands: str, *, shell: str = "bash", **env: str) -> subprocess.CompletedProcess[str]:
        arguments = [shell, "-f", "-c", commands] if shell == "zsh" else [shell, "--norc", "-c", commands]
        return subprocess.run(
            arguments, env={**self.env, **env}, capture_output=True, text=True, timeout=120, cwd=self.root.parent
        )

    def source(self, after: str = "echo rc=$?", **options: str) -> subprocess.CompletedProcess[str]:
        return self.run(f'source "{self.root}/{SCRIPT}"; {after}', **options)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def installs(self) -> int:
        return sum(line.startswith("begin pip install") and "requirements.txt" in line for line in self.calls())


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stderr.splitlines() if "error:" in line]


@pytest.mark.parametrize("shell", SHELLS)
def test_creates_activates_and_is_quick_when_called_again(project, shell):
    first = project.source("echo rc=$?; command -v python; python -c 'import torch, cv2; print(1)'", shell=shell)
    assert first.stdout.splitlines() == ["rc=0", f"{project.root}/.venv/bin/python", "1"], first.stderr
    assert project.installs() == 1 and not errors(first)

    # Quick: neither an installer nor the system's Python is started, and the environment's own only once.
    python, started = project.root / ".venv/bin/python", project.root / "started"
    real = os.readlink(python)
    python.unlink()
    python.write_text(f'#!/bin/sh\necho once >>"{started}"\nexec "{real}" "$@"\n')
    python.chmod(0o755)
    for name in ("python3", "uv"):
        project.program(name, f'#!/bin/sh\necho {name} >>"{started}"\nexit 1\n')
    again = project.source("echo rc=$?; command -v python", shell=shell)
    assert started.read_text() == "once\n"
    assert again.stdout.splitlines() == ["rc=0", f"{project.root}/.venv/bin/python"]
    assert again.stderr == "" and project.installs() == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_leaves_nothing_in_the_callers_shell(project, shell):
    project.source()
    state = "set -o; " + ("shopt; declare -F; compgen -v" if shell == "bash" else "print -l ${(k)functions}")
    result = project.run(
        f'cd /; before=$({state}); source "{project.root}/{SCRIPT}" && deactivate; after=$({state}); pwd; '
        'diff <(echo "$before") <(echo "$after"); true',
        shell=shell,
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "/"
    changed = [line for line in lines if line[:2] in ("< ", "> ")]
    # `before` itself, and what the shell notes about the last command and Python's own activate about the prompt.
    allowed = ("before", "PS1", "PIPESTATUS", "_", "BASH_", "deactivate")
    assert all(any(name in line for name in allowed) for line in changed), changed
    assert "alphaction" not in result.stdout


@pytest.mark.parametrize("options", ["set -eu", "set -euo pipefail", "set -f; IFS=,"])
def test_works_under_the_callers_options(project, options):
    result = project.run(f'{options}; source "{project.root}/{SCRIPT}"; python -c "print(5)"; echo done')
    assert result.stdout.splitlines() == ["5", "done"], result.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_failure_returns_and_the_shell_lives_on(project, shell):
    project.program("python3", "#!/bin/sh\necho '3.8 /usr/bin/python3'\n")
    project.env["PATH"] = f"{project.bin}:{_bin_without_python(project)}"
    result = project.source("echo rc=$?; false; echo alive; command -v deactivate || echo inactive", shell=shell)
    assert result.stdout.splitlines() == ["rc=1", "alive", "inactive"]
    assert not (project.root / ".venv").exists()


def _bin_without_python(project: Project) -> pathlib.Path:
    folder = project.bin.parent / "tools"
    folder.mkdir()
    for name in (
        *SHELLS,
        "sh",
        "dirname",
        "cat",
        "mkdir",
        "find",
        "rm",
        "mv",
        "grep",
        "df",
        "tail",
        "tr",
        "cut",
        "env",
    ):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def test_python_too_old(project):
    project.program("python3", "#!/bin/sh\necho '3.8 /usr/bin/python3'\n")
    project.env["PATH"] = f"{project.bin}:{_bin_without_python(project)}"
    [line] = project.source().stderr.splitlines()
    assert "Python 3.10 or newer is needed, python3 is Python 3.8 (/usr/bin/python3)" in line


def test_a_newer_python_under_another_name_is_taken(project):
    (project.bin / "python3").rename(project.bin / "python3.12")
    project.program("python3", "#!/bin/sh\necho '3.8 /usr/bin/python3'\n")
    assert "rc=0" in project.source().stdout


def test_no_python(project):
    (project.bin / "python3").unlink()
    project.env["PATH"] = f"{project.bin}:{_bin_without_python(project)}"
    [line] = project.source().stderr.splitlines()
    assert "no Python found; Python 3.10 or newer is needed" in line and "apt install python3" in line


def test_python_without_ensurepip_and_no_uv(project):
    (project.bin / "uv").unlink()
    hidden = project.bin.parent / "hidden"
    hidden.mkdir()
    (hidden / "ensurepip.py").write_text("raise ImportError('not here')")
    project.program(
        "python3",
        f'#!/bin/sh\ncase "$*" in *ensurepip*) PYTHONPATH="{hidden}"; export PYTHONPATH; esac\n'
        f'case "$*" in *sys.executable*) echo "3.12 {project.bin}/python3"; exit; esac\nexec "{PYTHON}" "$@"\n',
    )
    project.env["PATH"] = f"{project.bin}:{_bin_without_python(project)}"
    result = project.source()
    [line] = errors(result)
    assert "lacks the venv and ensurepip modules" in line and "apt install python3-venv" in line
    assert "rc=1" in result.stdout


def test_no_network(project):
    (project.bin / "uv").unlink()
    project.env["PATH"] = f"{project.bin}:{_bin_without_python(project)}"
    result = project.source(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1", PIP_CONFIG_FILE=os.devnull)
    [line] = errors(result)
    assert "cannot reach the package index" in line and "install.log" in line
    assert "rc=1" in result.stdout


def test_falls_back_to_pip_and_says_so(project):
    result = project.source(FAKE_FAIL="error: Failed to fetch: https://pypi.org/simple/torch/", PIP_NO_INDEX="1")
    assert "uv could not install" in result.stderr and "trying pip" in result.stderr
    assert len(errors(result)) == 1 and "rc=1" in result.stdout


def test_full_disk_is_named(project):
    result = project.source(FAKE_FAIL="error: write failed: No space left on device (os error 28)")
    [line] = errors(result)
    assert "the disk is full" in line and "trying pip" not in result.stderr
    assert "rc=1" in result.stdout


def test_folder_that_cannot_be_written(project):
    (project.root / ".venv").write_text("a file in the way")
    result = project.source()
    [line] = errors(result)
    assert f"cannot create {project.root}/.venv" in line


def test_changed_requirements_are_installed_into_the_same_environment(project):
    project.source()
    mine = project.root / ".venv" / "mine"
    mine.write_text("")
    with open(project.root / "requirements.txt", "a") as file:
        file.write("another\n")
    assert "updating .venv" in project.source().stderr
    assert project.installs() == 2 and mine.exists()
    project.source()
    assert project.installs() == 2


def test_a_failed_update_leaves_the_environment_and_is_tried_again(project):
    project.source()
    mine = project.root / ".venv" / "mine"
    mine.write_text("")
    (project.root / "setup.py").write_text("# new")
    failed = project.source(FAKE_FAIL="error: Failed to fetch", PIP_NO_INDEX="1")
    assert "rc=1" in failed.stdout and mine.exists()
    assert "rc=0" in project.source().stdout and mine.exists()


def test_an_environment_of_another_place_is_made_anew(project):
    project.source()
    moved = project.root.parent / "moved"
    project.root.rename(moved)
    project.root = moved
    result = project.source("command -v python")
    assert result.stdout.strip() == f"{moved}/.venv/bin/python"
    assert project.installs() == 2


@pytest.mark.parametrize("damage", ["python", "stamp", "unfinished"])
def test_a_broken_environment_is_repaired(project, damage):
    project.source()
    venv = project.root / ".venv"
    if damage == "python":
        for link in (venv / "bin").glob("python*"):
            link.unlink()
            link.symlink_to("/nowhere/python3")
    elif damage == "stamp":
        (venv / ".alphaction-stamp").unlink()
    else:
        (venv / ".alphaction-unfinished").write_text("")
        (venv / "rubbish").write_text("")
    result = project.source("echo rc=$?; python -c 'import torch'")
    assert "rc=0" in result.stdout, result.stderr
    assert project.installs() == 2 and not (venv / "rubbish").exists()


def test_a_killed_installation_is_repaired(project):
    process = subprocess.Popen(
        ["bash", "--norc", "-c", f'source "{project.root}/{SCRIPT}"'],
        env={**project.env, "FAKE_SLEEP": "20"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not project.calls() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (project.root / ".venv/.alphaction-stamp").exists()
    result = project.source("echo rc=$?; python -c 'import torch'")
    assert "rc=0" in result.stdout and "creating .venv" in result.stderr


def test_two_at_once_install_once(project, tmp_path):
    gate, told = tmp_path / "gate", [tmp_path / f"errors{i}.txt" for i in range(2)]
    processes = []
    for path in told:
        with open(path, "w") as errors:
            line = f'source "{project.root}/{SCRIPT}" && python -c "import torch"'
            env = {**project.env, "FAKE_GATE": str(gate)}
            processes.append(subprocess.Popen(["bash", "--norc", "-c", line], env=env, stderr=errors))
    end = time.monotonic() + 60  # the first installs until the second waits
    while not any("waiting for it" in path.read_text() for path in told) and time.monotonic() < end:
        time.sleep(0.05)
    gate.write_text("")
    outputs = [path.read_text() for process, path in zip(processes, told, strict=True) if process.wait(120) is not None]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert project.installs() == 1
    assert sum("waiting for it" in text for text in outputs) == 1


def test_opencv_without_its_libraries_is_replaced(project):
    broken = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    result = project.source("echo rc=$?; python -c 'import cv2'", FAKE_CV2=broken)
    assert "rc=0" in result.stdout, result.stderr
    assert "libGL.so.1" in result.stderr and "installing opencv-python-headless 4.9.0.1 instead" in result.stderr
    removed, installed = (
        next(i for i, line in enumerate(project.calls()) if line.startswith("begin") and words in line)
        for words in ("uninstall", "opencv-python-headless==4.9.0.1")
    )
    assert removed < installed and "--no-deps" in project.calls()[installed]


def test_opencv_broken_otherwise_is_reported(project):
    [line] = errors(project.source(FAKE_CV2="raise ImportError('numpy is too old')"))
    assert "cannot import cv2: ImportError: numpy is too old" in line


def test_a_torchvision_of_another_torch_is_reported(project):
    [line] = errors(project.source(FAKE_NMS="None"))
    assert "an installed package does not work: TypeError" in line and "rm -rf .venv" in line


def test_uv_gets_what_pip_is_configured_with(project):
    config = project.bin.parent / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nextra-index-url =\n    file:///a\n    file:///b\n"
        "cert = /etc/my.crt\ntrusted-host = mirror.example\n[install]\nfind-links = /wheels\n"
    )
    project.source(PIP_CONFIG_FILE=str(config), PIP_PROXY="http://proxy:1", PIP_FIND_LINKS="/other")
    call = next(line for line in project.calls() if "requirements.txt" in line)
    for words in (
        "--index-url https://mirror.example/simple",
        "--extra-index-url file:///a --extra-index-url file:///b",
        "--find-links /other",
        "--allow-insecure-host mirror.example",
        "--index-strategy unsafe-best-match",
    ):
        assert words in call
    assert "SSL_CERT_FILE=/etc/my.crt" in project.calls() and "HTTPS_PROXY=http://proxy:1" in project.calls()


def test_pips_files_can_be_switched_off(project):
    folder = project.bin.parent / "home/.config/pip"
    folder.mkdir(parents=True)
    (folder / "pip.conf").write_text("[global]\nfind-links = /from-home\n")
    project.source()
    assert "--find-links /from-home" in project.calls()[0]
    (project.root / "setup.py").write_text("# again")
    project.source(PIP_CONFIG_FILE=os.devnull)
    assert "--find-links" not in [line for line in project.calls() if line.startswith("begin")][-1]


def test_running_instead_of_sourcing_says_how(project):
    result = project.run(f'bash "{project.root}/{SCRIPT}"')
    assert result.returncode == 1
    assert "source this file instead of running it" in result.stderr


def test_the_system_python_is_never_the_target(project):
    result = project.source(UV_SYSTEM_PYTHON="1", PIP_USER="1", PIP_TARGET="/nowhere", PYTHONHOME="")
    assert "rc=0" in result.stdout, result.stderr
    for line in project.calls():
        if line.startswith("begin"):
            assert f"--python {project.root}/.venv/bin/python" in line


def test_ci_calls_the_same_line():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[-1] == "source activate_uv_env.sh && python -m pytest"
    assert os.access(ROOT / ".ci/run", os.X_OK)
