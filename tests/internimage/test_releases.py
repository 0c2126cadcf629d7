"""Weights by name and URL, from a server on this machine that can break off, change its files and count its answers."""

import hashlib
import http.server
import threading

import pytest

from lib.errors import InputError
from lib.internimage.checkpoints import releases
from lib.internimage.checkpoints.releases import RELEASED, fetch

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers any path with ``content``; understands ranges; breaks off after ``cut`` bytes of an answer, if set."""

    content, version, cut, status = CONTENT, '"1"', None, 200

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def address(self, name):
        return f"http://127.0.0.1:{self.server_port}/resolve/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.status != 200:
            return self.send_error(server.status)
        start = 0
        if wanted and self.headers.get("If-Range") == server.version:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.version)
        self.end_headers()
        self.wfile.write(body[: server.cut])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture()
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """The folder of weights; no waiting, no proxy."""
    monkeypatch.setenv(releases.FOLDER, str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(releases, "_PAUSE", 0.0)
    return tmp_path / "weights"


def test_a_url_is_downloaded_once(server, folder):
    path = fetch(server.address("net.pth?download=true"))
    assert path == folder / "net.pth" and path.read_bytes() == CONTENT
    assert fetch(server.address("net.pth")) == path and len(server.asked) == 1
    assert [file.name for file in folder.iterdir()] == ["net.pth"]
    assert fetch(server.address("..%2F..%2Fother.pth")) == folder / "other.pth"


def test_a_broken_download_goes_on_where_it_stopped(server, folder):
    server.cut = 500_000
    assert fetch(server.address("net.pth")).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=500000-", "bytes=1000000-"]


def test_what_has_arrived_is_kept_for_the_next_time(server, folder):
    server.cut = 100_000
    with pytest.raises(InputError, match="not downloaded after 5 attempts .*the connection ended early.*try again"):
        fetch(server.address("net.pth"))
    assert not (folder / "net.pth").exists()
    server.cut = None
    assert fetch(server.address("net.pth")).read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=500000-"


def test_a_file_that_has_changed_meanwhile_is_begun_anew(server, folder, monkeypatch):
    monkeypatch.setattr(releases, "_ATTEMPTS", 1)
    server.cut = 300_000
    with pytest.raises(InputError):
        fetch(server.address("net.pth"))
    server.cut, server.version, server.content = None, '"2"', CONTENT[::-1]
    assert fetch(server.address("net.pth")).read_bytes() == CONTENT[::-1]


def test_two_at_a_time_download_once(server, folder):
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(server.address("net.pth")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [folder / "net.pth"] * 4 and len(server.asked) == 1
    assert (folder / "net.pth").read_bytes() == CONTENT


def test_a_hash_in_the_name_is_checked(server, folder, tmp_path):
    good, bad = f"net-{DIGEST[:8]}.pth", "net-0123abcd.pth"
    assert fetch(server.address(good)).name == good
    message = rf"SHA-256 begins with {DIGEST[:8]} \(expected 0123abcd"
    with pytest.raises(InputError, match=message):
        fetch(server.address(bad))
    assert [file.name for file in folder.iterdir()] == [good]
    (tmp_path / bad).write_bytes(CONTENT)
    with pytest.raises(InputError, match=message):
        fetch(tmp_path / bad)
    for name in ("net-20240131.pth", "net-small.pth"):  # a date, a word
        (tmp_path / name).write_bytes(CONTENT)
        assert fetch(tmp_path / name) == tmp_path / name


def test_servers_that_do_not_help_are_named(server, folder):
    server.status = 404
    with pytest.raises(InputError, match=r"net.pth: the server answers 404 Not Found; check the address"):
        fetch(server.address("net.pth"))
    assert len(server.asked) == 1 and not list(folder.iterdir())
    with pytest.raises(InputError, match="http://127.0.0.1:1/net.pth: not downloaded .*refused.* by hand"):
        fetch("http://127.0.0.1:1/net.pth")
    with pytest.raises(InputError, match="names no file"):
        fetch("http://127.0.0.1:1/")


def test_names_are_looked_for_here_and_then_fetched(server, folder, monkeypatch):
    monkeypatch.setattr(releases, "ADDRESS", server.address("{}.pth"))
    folder.mkdir()
    (folder / "internimage_s_1k_224.pth").write_bytes(b"mine")
    assert fetch("internimage_s_1k_224").read_bytes() == b"mine" and not server.asked
    assert fetch("internimage_t_1k_224.pth") == folder / "internimage_t_1k_224.pth"
    assert server.asked == [("/resolve/internimage_t_1k_224.pth", None)]
    (folder / "own.pth").write_bytes(b"own")
    assert fetch("own") == fetch("own.pth") == folder / "own.pth"
    with pytest.raises(
        InputError, match="nosuch: no such file, here or in .*weights, nor a name of the public release"
    ):
        fetch("nosuch")
    with pytest.raises(InputError, match="some/internimage_t_1k_224.pth: no such file"):
        fetch("some/internimage_t_1k_224.pth")
    assert len(server.asked) == 1


def test_without_a_folder_torchs_own_is_used(server, monkeypatch, tmp_path):
    monkeypatch.delenv(releases.FOLDER, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert fetch(server.address("net.pth")) == tmp_path / "hub" / "checkpoints" / "net.pth"


def test_the_release_has_every_variant_and_head():
    assert len(set(RELEASED)) == len(RELEASED)
    for variant in ("t", "s", "b", "l", "xl", "h", "g"):
        assert any(name.startswith(f"internimage_{variant}_") for name in RELEASED)
    for head in ("upernet", "segformer", "mask2former"):
        assert any(name.startswith(f"{head}_internimage_") for name in RELEASED)
    assert releases.ADDRESS.format(RELEASED[0]).endswith("/OpenGVLab/InternImage/resolve/main/internimage_t_1k_224.pth")
