"""Downloads from a server on this machine that loses connections, changes its file, or does not know ranges."""

import hashlib
import http.server
import threading

import pytest

from alphaction.errors import CheckpointError
from alphaction.weights import Download, fetch
from alphaction.weights.download import check_sum

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA = hashlib.sha256(CONTENT).hexdigest()


class _Server(http.server.ThreadingHTTPServer):
    """Attributes: `content`; `etag`; `cut`: bytes after which the next answers are cut off; `ranges`: knows Range."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.etag, self.cut, self.ranges = CONTENT, '"1"', [], True
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/w.pth"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if not self.path.endswith("w.pth"):
            return self.send_error(404)
        begin = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return None
        self.send_response(206 if begin else 200)
        body = server.content[begin:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body[: server.cut.pop(0)] if server.cut else body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _fetch(server, target, *, sha256=SHA, url=None, progress=lambda here, total: None):
    fetch(Download(url or server.url, target, sha256), progress=progress, timeout=5.0, pause=0.01)


def test_a_whole_file_appears(server, tmp_path):
    seen = []
    _fetch(server, tmp_path / "a" / "w.pth", progress=lambda here, total: seen.append((here, total)))
    assert (tmp_path / "a" / "w.pth").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["w.pth"], "nothing else is left"
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


def test_a_lost_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cut = [1_000_000, 2_000_000]
    _fetch(server, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=3000000-"]


def test_the_next_attempt_goes_on(server, tmp_path):
    server.cut = [100_000] * 4
    with pytest.raises(
        CheckpointError, match=r"the connection was lost .*0\.4 MiB are in .*w\.pth\.part; the same comm"
    ):
        _fetch(server, tmp_path / "w.pth")
    assert not (tmp_path / "w.pth").exists()
    _fetch(server, tmp_path / "w.pth")
    assert server.asked[-1] == "bytes=400000-" and (tmp_path / "w.pth").read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.ranges, server.cut = False, [300_000]
    _fetch(server, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_begins_anew(server, tmp_path):
    server.cut = [100_000] * 4
    with pytest.raises(CheckpointError):
        _fetch(server, tmp_path / "w.pth")
    server.etag, server.content = '"2"', CONTENT[::-1]
    _fetch(server, tmp_path / "w.pth", sha256="")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT[::-1]


def test_a_part_that_is_whole_already(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    (tmp_path / "w.pth.part.from").write_text('"1"')
    _fetch(server, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT and server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_begins_anew(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / "w.pth.part.from").write_text('"1"')
    _fetch(server, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_a_wrong_checksum_is_not_kept(server, tmp_path):
    with pytest.raises(
        CheckpointError, match=f"its SHA-256 is {SHA}, expected one that begins with 00: damaged, or an"
    ):
        _fetch(server, tmp_path / "w.pth", sha256="00")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_says_what_to_do(server, tmp_path):
    with pytest.raises(CheckpointError, match=r"the server answers 404 \(.*put it at .*w\.pth; a file that lies there"):
        _fetch(server, tmp_path / "w.pth", url=server.url.replace("w.pth", "x"))
    assert list(tmp_path.iterdir()) == []


def test_no_network_says_what_to_do(server, tmp_path):
    server.server_close()
    message = r"cannot be reached \(.*Without a network here, download it elsewhere and put it at .*w\.pth"
    with pytest.raises(CheckpointError, match=message):
        _fetch(server, tmp_path / "w.pth")
    assert list(tmp_path.iterdir()) == []


def test_two_at_once(server, tmp_path):
    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
    with (tmp_path / "w.pth.part").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process is downloading this file; wait for it"):
            _fetch(server, tmp_path / "w.pth")


def test_checksum_of_a_file(tmp_path):
    (tmp_path / "w").write_bytes(CONTENT)
    assert check_sum(tmp_path / "w", SHA[:8], on_failure="") == SHA
    with pytest.raises(CheckpointError, match="Move it"):
        check_sum(tmp_path / "w", "f" * 64, on_failure="Move it away.")
    assert (tmp_path / "w").exists()
