"""Checkpoint files by path, URL or name of the public release: searched on this machine first, then downloaded.

The environment variable ``INTERNIMAGE_WEIGHTS`` names the folder that is searched and that downloads go to. Its
default is torch's folder for checkpoints. The variable ``HF_HUB_OFFLINE`` forbids downloads.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from lib.errors import InputError
from lib.files import whole_file

FOLDER = "INTERNIMAGE_WEIGHTS"
"""Environment variable that names the folder of weights."""

REPOSITORY = "OpenGVLab/InternImage"
"""Repository of the public release on the Hugging Face Hub; a name of the release is a file in it."""

_NAME = re.compile(r"(?:(?:upernet|segformer|mask2former)_)?internimage_(?:t|s|b|l|xl|h|g)_\w+")
_EXAMPLES = "internimage_t_1k_224 or upernet_internimage_b_512_160k_ade20k"
_URLS = ("http://", "https://", "hf://")
_TIMEOUT = 60  # seconds without an answer
_DATE = re.compile(r"20[0-3]\d[01]\d[0-3]\d")
_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def fetch(source: str | Path) -> Path:
    """Return the local file of ``source``; download it where it is not on this machine.

    Args:
        source: a file, a URL (``http(s)://`` or ``hf://``), or a name. Names, with ``.pth`` appended, are
            searched in the folder of weights, then among the files of the public release.

    Raises:
        InputError: there is no such file, the download fails, or the hash in the file's name is not that of its
            content (``-`` and at least 8 hexadecimal digits before the suffix: the beginning of its SHA-256).
    """
    text = str(source)
    folder = Path(os.environ.get(FOLDER) or _torch_folder()).expanduser()
    if not text.startswith(_URLS):
        if Path(text).is_file():
            return _check_hash(Path(text))
        name = f"{text.removesuffix('.pth')}.pth"
        if Path(name).name != name:  # a path, not a name
            raise InputError(f"{text}: no such file (expected a checkpoint written by torch.save).")
        if (folder / name).is_file():
            return _check_hash(folder / name)
        if not _NAME.fullmatch(Path(name).stem):
            raise InputError(
                f"{text}: no such file, here or in {folder}, and no name of the public release (such as {_EXAMPLES}; "
                f"all: https://huggingface.co/{REPOSITORY})."
            )
        text = f"hf://{REPOSITORY}/{name}"
    name, download = _parse_url(text, folder)
    target = folder / name
    return _check_hash(target) if target.is_file() else _download(text, target, download)


def _torch_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _parse_url(url: str, folder: Path) -> tuple[str, Callable[[], object]]:
    """Return the file's path below ``folder`` and the function that downloads it."""
    from huggingface_hub import constants, parse_hf_uri
    from huggingface_hub.errors import HfUriError

    try:
        uri = parse_hf_uri(url, endpoint=constants.ENDPOINT)
        name, download = uri.path_in_repo, partial(_from_hub, uri.id, uri.path_in_repo, uri.revision, folder)
    except HfUriError:
        name = Path(unquote(urlsplit(url).path)).name
        download = partial(_from_url, url, folder / name)
    if not name:
        raise InputError(f"{url}: names no file (expected the URL of a checkpoint).")
    return name, download


def _from_hub(repository: str, name: str, revision: str | None, folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(repository, name, revision=revision, local_dir=folder)


def _from_url(url: str, target: Path) -> None:
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise OSError("HF_HUB_OFFLINE is set")
    request = Request(url, headers={"User-Agent": "lib.internimage"})
    with whole_file(target) as temporary, urlopen(request, timeout=_TIMEOUT) as answer:
        progress = tqdm.wrapattr(answer, "read", total=answer.length, desc=target.name, mininterval=1)
        with temporary.open("wb") as file, progress as stream:
            shutil.copyfileobj(stream, file, 1 << 20)
        if answer.length:  # bytes that did not arrive
            raise OSError("the connection ended early")


def _download(url: str, target: Path, download: Callable[[], object]) -> Path:
    """Run ``download`` in one process at a time; ``target`` appears whole or not at all."""
    from huggingface_hub.utils import WeakFileLock

    lock = target.parent / ".cache" / f"{target.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if target.is_file():  # another process has just downloaded it
            return _check_hash(target)
        try:
            download()
        except Exception as error:  # the hub's client raises exceptions of several libraries
            reason = str(error.__cause__ or error or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{target.name}: not in {target.parent}, and not downloaded from {url} ({reason}); check address and "
                f"network and try again, or put the file into {target.parent} by hand."
            ) from error
        try:
            return _check_hash(target, url)
        except InputError:
            target.unlink()
            raise


def _check_hash(path: Path, url: str = "") -> Path:
    """Return ``path`` if its content has the hash that its name carries."""
    match = _HASH.search(path.name)
    if match is None or _DATE.fullmatch(match[1]):
        return path
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(match[1]):
        raise InputError(
            f"{url or path}: its SHA-256 begins with {found[: len(match[1])]} (expected {match[1]}, as in its name); "
            "download it again, or rename it if it was changed on purpose."
        )
    return path
