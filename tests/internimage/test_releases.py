"""Weights by name and URL, from a server on this machine that answers as the hub does and can break off."""

import hashlib
import http.server
import threading

import huggingface_hub
import pytest
from huggingface_hub import constants

from lib.errors import InputError
from lib.internimage.checkpoints import releases
from lib.internimage.checkpoints.releases import fetch

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers any path with ``content``; understands ranges; breaks off after ``cut`` bytes of an answer, if set."""

    content, cut, status = CONTENT, None, 200

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def address(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(0)

    def do_GET(self):
        if not self.path.startswith("/api/"):  # the hub's client asks for settings of its own
            self.server.asked.append((self.path, self.headers.get("Range")))
        self.answer(int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-")))

    def answer(self, start):
        server = self.server
        if server.status != 200:
            return self.send_error(server.status)
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("ETag", f'"{hashlib.sha256(server.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: server.cut])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture()
def server(monkeypatch):
    """A server that stands for the hub too."""
    server = Server()
    endpoint = server.address("")[:-1]
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """The folder of weights; no proxy."""
    monkeypatch.setenv(releases.FOLDER, str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "weights"


def files(folder) -> list[str]:
    """Names of the files in ``folder`` that somebody could take for weights, at any depth."""
    return sorted(file.name for file in folder.rglob("*.pth*") if not file.name.endswith((".lock", ".metadata")))


def test_a_url_is_downloaded_once(server, folder):
    path = fetch(server.address("net.pth?download=true"))
    assert path == folder / "net.pth" and path.read_bytes() == CONTENT
    assert fetch(server.address("net.pth")) == path and len(server.asked) == 1
    assert files(folder) == ["net.pth"]
    assert fetch(server.address("..%2F..%2Fother.pth")) == folder / "other.pth"


def test_addresses_of_the_hub_are_downloaded_from_the_hub(server, folder):
    named = server.address("someone/repository/resolve/main/part/net.pth")
    assert fetch(named) == fetch("hf://someone/repository/part/net.pth") == folder / "part" / "net.pth"
    assert (folder / "part" / "net.pth").read_bytes() == CONTENT and len(server.asked) == 1


def test_a_broken_download_of_the_hub_continues(server, folder, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    server.cut = 500_000
    assert fetch("internimage_t_1k_224").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=500000-", "bytes=1000000-"]


@pytest.mark.parametrize("source", ["internimage_t_1k_224", "net.pth"])
def test_a_broken_download_leaves_nothing(source, server, folder):
    server.cut = 0 if source.startswith("intern") else 100_000
    address = source if source.startswith("intern") else server.address(source)
    message = rf"\w+.pth: not in {folder}, and not downloaded from \S+{source}.* \(.+\); .*try again, or put .* by hand"
    with pytest.raises(InputError, match=message) as refusal:
        fetch(address)
    assert "\n" not in str(refusal.value)
    assert files(folder) == []
    server.cut = None
    assert fetch(address).read_bytes() == CONTENT


@pytest.mark.parametrize("source", ["internimage_t_1k_224", "net.pth"])
def test_two_at_a_time_download_once(source, server, folder):
    address = source if source.startswith("intern") else server.address(source)
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(address))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(paths) == 4 and len(set(paths)) == 1 and len(server.asked) == 1
    assert paths[0].read_bytes() == CONTENT


def test_a_hash_in_the_name_is_checked(server, folder, tmp_path):
    good, bad = f"net-{DIGEST[:8]}.pth", "net-0123abcd.pth"
    assert fetch(server.address(good)).name == good
    message = rf"SHA-256 begins with {DIGEST[:8]} \(expected 0123abcd"
    for address in (server.address(bad), f"hf://someone/repository/{bad}"):
        with pytest.raises(InputError, match=message):
            fetch(address)
    assert files(folder) == [good]
    (tmp_path / bad).write_bytes(CONTENT)
    with pytest.raises(InputError, match=message):
        fetch(tmp_path / bad)
    for name in ("net-20240131.pth", "net-small.pth"):  # a date, a word
        (tmp_path / name).write_bytes(CONTENT)
        assert fetch(tmp_path / name) == tmp_path / name


def test_servers_that_do_not_help_are_named(server, folder):
    server.status = 404
    with pytest.raises(InputError, match=r"net.pth: not in .*/net.pth \(.*404.*Not Found\); check address and network"):
        fetch(server.address("net.pth"))
    with pytest.raises(InputError, match=r"internimage_t_9k.pth: not in .*InternImage/internimage_t_9k.pth \(.*404"):
        fetch("internimage_t_9k")
    assert len(server.asked) == 1 and not files(folder)
    with pytest.raises(InputError, match="not downloaded from http://127.0.0.1:1/net.pth .*refused.* by hand"):
        fetch("http://127.0.0.1:1/net.pth")
    with pytest.raises(InputError, match="names no file"):
        fetch("http://127.0.0.1:1/")


@pytest.mark.parametrize("source", ["internimage_t_1k_224", "http://127.0.0.1:1/internimage_t_1k_224.pth"])
def test_offline_nothing_is_asked_for(source, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = rf"internimage_t_1k_224.pth: not in {folder}, .* \(.*HF_HUB_OFFLINE.*\); .*put the file into {folder}"
    with pytest.raises(InputError, match=message) as refusal:
        fetch(source)
    assert "\n" not in str(refusal.value)
    (folder / "internimage_t_1k_224.pth").write_bytes(CONTENT)
    assert fetch(source) == folder / "internimage_t_1k_224.pth"


def test_names_are_looked_for_here_and_then_fetched(server, folder):
    folder.mkdir()
    (folder / "internimage_s_1k_224.pth").write_bytes(b"mine")
    assert fetch("internimage_s_1k_224").read_bytes() == b"mine" and not server.asked
    assert fetch("internimage_t_1k_224.pth") == folder / "internimage_t_1k_224.pth"
    assert server.asked == [("/OpenGVLab/InternImage/resolve/main/internimage_t_1k_224.pth", None)]
    (folder / "own.pth").write_bytes(b"own")
    assert fetch("own") == fetch("own.pth") == folder / "own.pth"
    with pytest.raises(
        InputError, match="nosuch: no such file, here or in .*weights, and no name of the public release"
    ):
        fetch("nosuch")
    with pytest.raises(InputError, match="some/internimage_t_1k_224.pth: no such file"):
        fetch("some/internimage_t_1k_224.pth")
    assert len(server.asked) == 1


def test_without_a_folder_torchs_own_is_used(server, monkeypatch, tmp_path):
    monkeypatch.delenv(releases.FOLDER, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    assert fetch(server.address("net.pth")) == folder / "net.pth"
    assert fetch("internimage_t_1k_224") == folder / "internimage_t_1k_224.pth"


RELEASED = """
internimage_t_1k_224 internimage_s_1k_224 internimage_b_1k_224 internimage_l_22k_192to384 internimage_l_22kto1k_384
internimage_xl_22k_192to384 internimage_xl_22kto1k_384 internimage_h_jointto22k_384 internimage_h_22kto1k_640
internimage_h_22ktoinat18_384 internimage_g_pretrainto22k_384 internimage_g_22kto1k_512
upernet_internimage_t_512_160k_ade20k upernet_internimage_s_512_160k_ade20k upernet_internimage_b_512_160k_ade20k
upernet_internimage_l_640_160k_ade20k upernet_internimage_xl_640_160k_ade20k upernet_internimage_h_896_160k_ade20k
upernet_internimage_t_512x1024_160k_cityscapes upernet_internimage_s_512x1024_160k_cityscapes
upernet_internimage_b_512x1024_160k_cityscapes upernet_internimage_l_512x1024_160k_cityscapes
upernet_internimage_xl_512x1024_160k_cityscapes upernet_internimage_l_512x1024_80k_mapillary
upernet_internimage_xl_512x1024_80k_mapillary upernet_internimage_l_512x1024_160k_mapillary2cityscapes
upernet_internimage_xl_512x1024_160k_mapillary2cityscapes segformer_internimage_l_512x1024_80k_mapillary
segformer_internimage_xl_512x1024_80k_mapillary segformer_internimage_l_512x1024_160k_mapillary2cityscapes
segformer_internimage_xl_512x1024_160k_mapillary2cityscapes mask2former_internimage_h_896x896_80k_mapillary
mask2former_internimage_h_1024x1024_80k_mapillary2cityscapes mask2former_internimage_h_896_80k_cocostuff164k
mask2former_internimage_h_896_80k_cocostuff2ade20k mask2former_internimage_h_512_40k_cocostuff164k_to_10k
mask2former_internimage_h_480_40k_nyu mask2former_internimage_h_480_40k_pascal_context_59
""".split()


def test_names_of_the_release_lead_to_its_repository(folder, monkeypatch):
    asked = []

    def download(repository, name, **options):
        asked.append((repository, name, options["local_dir"]))
        (folder / name).touch()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for name in RELEASED:
        assert fetch(name) == folder / f"{name}.pth"
    assert asked == [("OpenGVLab/InternImage", f"{name}.pth", folder) for name in RELEASED]
