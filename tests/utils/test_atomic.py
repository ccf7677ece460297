import os
import pathlib
import resource
import stat
import subprocess
import sys
import textwrap

import pytest

from alphaction.utils.atomic import atomic_write, remove_leftovers, write_text


def write_bytes(path, *, data):
    with atomic_write(path) as file:
        file.write(data)


def test_writes_text_and_bytes(tmp_path):
    write_text(tmp_path / "a.txt", text="größer\n")
    write_bytes(tmp_path / "b.bin", data=b"\r\n\0")
    assert (tmp_path / "a.txt").read_bytes() == "größer\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\r\n\0"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.bin"]


def test_exception_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    write_text(tmp_path / "a", text="old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(tmp_path / "a", text=True) as file:
        file.write("new")
        raise RuntimeError("half way")
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_failing_write_keeps_the_old_file(tmp_path):
    write_bytes(tmp_path / "a", data=b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_bytes(tmp_path / "a", data=bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "no" / "a", text="x")


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", text="x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_symbolic_link_stays(tmp_path):
    (tmp_path / "real").mkdir()
    write_text(tmp_path / "real" / "a", text="old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    write_text(tmp_path / "link", text="new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_text() == "new"


def test_killed_process_leaves_the_old_file_whole(tmp_path):
    write_text(tmp_path / "model_1.pth", text="old")
    script = textwrap.dedent(
        f"""
        import os, signal
        from alphaction.utils.atomic import atomic_write
        with atomic_write({str(tmp_path / "model_1.pth")!r}) as file:
            file.write(b"new")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    root = str(pathlib.Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == -9
    assert (tmp_path / "model_1.pth").read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    assert remove_leftovers(tmp_path, pattern="last_*") == []
    assert len(remove_leftovers(tmp_path, pattern="model_*.pth")) == 1
    assert os.listdir(tmp_path) == ["model_1.pth"]
