"""Weights by file, URL or the name of a public release: looked for on this machine first, then downloaded whole.

The folder named by the environment variable ``INTERNIMAGE_WEIGHTS`` is looked in before anything is downloaded,
and is where downloads land; without it that is torch's own folder for checkpoints.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from lib.errors import InputError

FOLDER = "INTERNIMAGE_WEIGHTS"
"""Environment variable with the folder of weights."""

ADDRESS = "https://huggingface.co/OpenGVLab/InternImage/resolve/main/{}.pth"

RELEASED = (
    # Classification: of 1,000 classes unless the name says 22k (21,841) or inat18 (8,142).
    "internimage_t_1k_224",
    "internimage_s_1k_224",
    "internimage_b_1k_224",
    "internimage_l_22k_192to384",
    "internimage_l_22kto1k_384",
    "internimage_xl_22k_192to384",
    "internimage_xl_22kto1k_384",
    "internimage_h_jointto22k_384",
    "internimage_h_22kto1k_640",
    "internimage_h_22ktoinat18_384",
    "internimage_g_pretrainto22k_384",
    "internimage_g_22kto1k_512",
    # Segmentation.
    "upernet_internimage_t_512_160k_ade20k",
    "upernet_internimage_s_512_160k_ade20k",
    "upernet_internimage_b_512_160k_ade20k",
    "upernet_internimage_l_640_160k_ade20k",
    "upernet_internimage_xl_640_160k_ade20k",
    "upernet_internimage_h_896_160k_ade20k",
    "upernet_internimage_t_512x1024_160k_cityscapes",
    "upernet_internimage_s_512x1024_160k_cityscapes",
    "upernet_internimage_b_512x1024_160k_cityscapes",
    "upernet_internimage_l_512x1024_160k_cityscapes",
    "upernet_internimage_xl_512x1024_160k_cityscapes",
    "upernet_internimage_l_512x1024_80k_mapillary",
    "upernet_internimage_xl_512x1024_80k_mapillary",
    "upernet_internimage_l_512x1024_160k_mapillary2cityscapes",
    "upernet_internimage_xl_512x1024_160k_mapillary2cityscapes",
    "segformer_internimage_l_512x1024_80k_mapillary",
    "segformer_internimage_xl_512x1024_80k_mapillary",
    "segformer_internimage_l_512x1024_160k_mapillary2cityscapes",
    "segformer_internimage_xl_512x1024_160k_mapillary2cityscapes",
    "mask2former_internimage_h_896x896_80k_mapillary",
    "mask2former_internimage_h_1024x1024_80k_mapillary2cityscapes",
    "mask2former_internimage_h_896_80k_cocostuff164k",
    "mask2former_internimage_h_896_80k_cocostuff2ade20k",
    "mask2former_internimage_h_512_40k_cocostuff164k_to_10k",
    "mask2former_internimage_h_480_40k_nyu",
    "mask2former_internimage_h_480_40k_pascal_context_59",
)
"""Files of the public release for these networks, without their suffix, as its pages list them."""

_ATTEMPTS, _PAUSE, _PATIENCE, _CHUNK = 5, 1.0, 60, 1 << 20


def fetch(source: str | Path) -> Path:
    """The local file of ``source``, downloaded if it has to be.

    Args:
        source: a file, an ``http(s)`` URL, or a name of :data:`RELEASED`; a name is first looked for in the folder
            of weights, with ``.pth`` behind it.

    Raises:
        InputError: there is no such file, the download fails, or the file is not the one whose hash its name carries
            (``-`` and 8 or more hexadecimal digits before the suffix: the start of its SHA-256).
    """
    text, folder = str(source), Path(os.environ.get(FOLDER) or _torch_folder()).expanduser()
    if text.startswith(("http://", "https://")):
        name, address = Path(unquote(urlsplit(text).path)).name, text
        if not name:
            raise InputError(f"{text}: names no file (expected the address of a checkpoint).")
    else:
        name = text if text.endswith(".pth") else f"{text}.pth"
        address = ADDRESS.format(name.removesuffix(".pth")) if name.removesuffix(".pth") in RELEASED else None
        if Path(text).is_file():
            return _checked(Path(text))
        if Path(name).name != name:  # a path, not a name
            raise InputError(f"{text}: no such file (expected a checkpoint written by torch.save).")
    if (folder / name).is_file():
        return _checked(folder / name)
    if address is None:
        raise InputError(
            f"{text}: no such file, here or in {folder}, nor a name of the public release (those are, for example, "
            f"{RELEASED[0]} and {RELEASED[14]}; all: lib.internimage.checkpoints.releases.RELEASED)."
        )
    return _download(address, folder / name)


def _torch_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _checked(path: Path, address: str | None = None) -> Path:
    """The path, if its content has the hash that its name carries; what was just downloaded is deleted if not."""
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name.removesuffix(".part"))
    if match is None or re.fullmatch(r"20[0-3]\d[01]\d[0-3]\d", match[1]):  # none, or a date
        return path
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(match[1]):
        if address:
            path.unlink()
        raise InputError(
            f"{address or path}: its SHA-256 begins with {found[: len(match[1])]} (expected {match[1]}, as its name "
            "says); download it again, or rename it if it was changed on purpose."
        )
    return path


def _download(address: str, target: Path) -> Path:
    """Download to ``target``, going on where an earlier attempt stopped; it appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with _alone(part):
        if target.is_file():  # another process has just downloaded it
            return _checked(target)
        for attempt in range(_ATTEMPTS):
            time.sleep(attempt * _PAUSE)
            try:
                if _transfer(address, part, target.name):
                    break
                reason = "the connection ended early"
            except urllib.error.HTTPError as error:
                raise InputError(
                    f"{address}: the server answers {error.code} {error.reason}; check the address."
                ) from None
            except (OSError, HTTPException) as error:
                reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        else:
            raise InputError(
                f"{address}: not downloaded after {_ATTEMPTS} attempts ({reason}); what has arrived is kept, so try "
                f"again, or put {target.name} into {target.parent} by hand."
            )
        _tag(part).unlink(missing_ok=True)
        os.replace(_checked(part, address), target)
    return target


@contextmanager
def _alone(part: Path):
    """Let one process at a time work on ``part``; the others wait. Leaves no empty file behind."""
    with part.open("ab") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        except ImportError:  # Windows: two downloads of one file at a time are up to the user
            pass
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _tag(part: Path) -> Path:
    """Where the server's mark of the version stands that ``part`` is the beginning of."""
    return part.with_name(f"{part.name}.etag")


def _transfer(address: str, part: Path, name: str) -> bool:
    """One attempt; whether all of the file has arrived."""
    tag, have = _tag(part), part.stat().st_size
    version = tag.read_text() if tag.exists() else ""
    request = urllib.request.Request(address, headers={"User-Agent": "lib.internimage"})
    if have and version:  # the server sends the rest, or all of it if the file has changed since
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", version)
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        tag.write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=name, total=total, initial=have, unit="B", unit_scale=True, unit_divisor=1024, mininterval=1
            ) as bar,
        ):
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or part.stat().st_size == total
