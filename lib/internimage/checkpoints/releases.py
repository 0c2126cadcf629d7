"""Checkpoint files by path, URL or name of the public release: searched on this machine first, then downloaded.

The environment variable ``HF_HUB_OFFLINE`` forbids downloads.
"""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfUriError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock

from lib.errors import InputError
from lib.files import discarding, whole_file

FOLDER = "INTERNIMAGE_WEIGHTS"
"""Environment variable: the folder that is searched and downloaded to; its default is torch's, for checkpoints."""

REPOSITORY = "OpenGVLab/InternImage"
"""Repository on the Hugging Face Hub; a name of the public release is a file in it."""

_NAME = re.compile(r"(?:(?:upernet|segformer|mask2former)_)?internimage_(?:t|s|b|l|xl|h|g)_\w+")
_HASH = re.compile(r"-(?!20[0-3]\d[01]\d[0-3]\d\.)([0-9a-f]{8,64})\.\w+$")  # but not a date


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
    folder = Path(os.environ.get(FOLDER) or Path(torch.hub.get_dir(), "checkpoints")).expanduser()
    if not text.startswith(("http://", "https://", "hf://")):
        name = f"{text.removesuffix('.pth')}.pth"
        for path in (Path(text), folder / name):
            if path.is_file():
                return _check_hash(path)
        if not _NAME.fullmatch(Path(name).stem) or Path(name).name != name:
            raise InputError(
                f"{text}: no such file, here or in {folder}, and no name of the public release (expected a checkpoint "
                "written by torch.save, or a name such as internimage_t_1k_224 or "
                f"upernet_internimage_b_512_160k_ade20k; all: https://huggingface.co/{REPOSITORY})."
            )
        text = f"hf://{REPOSITORY}/{name}"
    try:
        uri = huggingface_hub.parse_hf_uri(text, endpoint=constants.ENDPOINT)
        name = uri.path_in_repo
    except HfUriError:
        uri = None
        name = Path(unquote(urlsplit(text).path)).name
    if not name:
        raise InputError(f"{text}: names no file (expected the URL of a checkpoint).")
    target = folder / name
    return _check_hash(target) if target.is_file() else _download(text, uri, folder, target)


def _download(url: str, uri: huggingface_hub.HfUri | None, folder: Path, target: Path) -> Path:
    """Download in one process at a time; ``target`` appears whole or not at all. ``uri``: ``url``, if of the hub."""
    if discarding():
        raise InputError(f"{target.name}: not in {target.parent} (a dry run downloads nothing; a run does).")
    lock = target.parent / ".cache" / f"{target.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if target.is_file():  # another process has just downloaded it
            return _check_hash(target)
        try:
            if uri:
                huggingface_hub.hf_hub_download(uri.id, uri.path_in_repo, revision=uri.revision, local_dir=folder)
            else:
                with whole_file(target) as temporary, temporary.open("wb") as file:
                    http_get(url, file)
        except Exception as error:  # the hub's client raises exceptions of several libraries
            cause = error.__cause__ or error
            reason = (str(cause) or type(cause).__name__).splitlines()[0]
            if answer := getattr(cause, "response", None):
                reason = f"{answer.status_code} {answer.reason_phrase}"
            raise InputError(
                f"{target.name}: not in {target.parent}, and not downloaded from {url} ({reason}); check address and "
                f"network and try again, or put the file into {target.parent} by hand."
            ) from error
        return _check_hash(target, url)


def _check_hash(path: Path, url: str = "") -> Path:
    """Return ``path`` if its content has the hash in its name; otherwise remove it, if it is fresh from ``url``."""
    if match := _HASH.search(path.name):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(match[1]):
            if url:
                path.unlink()
            raise InputError(
                f"{url or path}: its SHA-256 begins with {found[: len(match[1])]} (expected {match[1]}, as in its "
                "name); download it again, or rename it if it was changed on purpose."
            )
    return path
