"""Random changes of a sound camera file: bytes, tokens and values."""

import random
import re
from pathlib import Path

import numpy as np

from lib.camera.remap import build_remap
from lib.camera.yaml_files import read_cameras
from lib.errors import InputError
from lib.synthesis.given_cameras import check_cameras

SIZE = (480, 270)
_SOURCE = "{model: Pinhole, width: 480, height: 270, fx: 330, fy: 330, cx: 239.5, cy: 134.5}"
_START = "model: {}, width: 960, height: 540, fx: 320, fy: 320, cx: 479.5, cy: 269.5"
_MODELS = (
    "{" + _START.format("Fisheye") + ", k: [0.01, 0.0, 0.0, 0.0]}",
    "{" + _START.format("ClassicFisheye") + ", kind: equisolid}",
    "{" + _START.format("DoubleSphere") + ", xi: 0.3, alpha: 0.5}",
    "{model: RadialPolynomial, width: 1280, height: 966, fx: 1, fy: 1, cx: 643.4, cy: 479.5, "
    "a: [339.749, -31.988, 48.275, -7.201]}",
)
_TOKENS = (
    *("0", "-1", "1e308", "-1e-308", ".nan", ".inf", "1e9", "0.5", "270", "480", "yes", "~", "''", "9" * 400, "0x1F"),
    *(
        "1:30",
        "1_000",
        "0o17",
        "134,5",
        "[]",
        "{}",
        "[1, 2]",
        "!!int 3",
        "!!binary aGk=",
        "&a 1",
        "*a",
        "<<",
        "? ",
        "%",
    ),
    *(
        "2026-01-01",
        "source:",
        "target: {}",
        "---\n",
        "...",
        "\t",
        "\0",
        "\ufeff",
        "\u2028",
        "é",
        "#",
        "|",
        ">",
        "'",
        '"',
    ),
    *(
        "Fisheye",
        "Pinhole",
        "DoubleSphere",
        "ClassicFisheye",
        "RadialPolynomial",
        "orthographic",
        "- ",
        ", ",
        ": ",
        "}",
    ),
)


def one(seed: int, folder: Path) -> bool:
    """Write a random camera file, and return whether it was accepted."""
    rng = random.Random(seed)
    target = rng.choice(_MODELS)
    size = (1280, 966) if "Radial" in target else SIZE
    text = f"source: {_SOURCE}\ntarget: {target}\n"
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 6))):
        text = rng.choice((_scale, _scale, _exchange, _insert, _replace))(text, rng)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        content = _damage(content, rng)
    path = folder / "camera.yaml"
    path.write_bytes(content)
    try:
        cameras = read_cameras(path)
        check_cameras(path, cameras, [SIZE], [size])
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, f"seed {seed}: {error}"
        return False
    _assert_sound(cameras, size, f"seed {seed}: {text!r}")
    return True


def _assert_sound(cameras, size: tuple[int, int], what: str) -> None:
    source, target = (camera.scaled(s) for camera, s in zip(cameras, (SIZE, size), strict=True))
    for camera, given in zip((source, target), cameras, strict=True):
        assert abs(camera.width / camera.height * given.height / given.width - 1) < 0.02, f"aspect, {what}"
        assert 0 < camera.cx < camera.width and 0 < camera.cy < camera.height, f"principal point, {what}"
        middle = camera.unproject([camera.cx, camera.cy])
        assert np.allclose(middle, (0, 0, 1)), f"axis, {what}"
    assert np.isfinite(source.rays()).all(), f"source without rays, {what}"
    rays = target.rays()
    near = rays[..., 2] >= 0.5
    assert build_remap(target, source).covered[near].mean() > 0.15, f"coverage, {what}"
    assert np.isfinite(rays[..., 0]).mean() > 0.15, f"target without rays, {what}"


def _numbers(text: str) -> list[re.Match]:
    return list(re.finditer(r"-?\d+\.?\d*", text))


def _put(text: str, place: re.Match, value: str) -> str:
    return text[: place.start()] + value + text[place.end() :]


def _scale(text: str, rng: random.Random) -> str:
    if not (found := _numbers(text)):
        return text
    place = rng.choice(found)
    value = float(place.group()[:300]) * rng.choice(
        (-1, 0.001, 0.01, 0.1, 0.5, 0.99, 1.01, 2, 10, 57.3, 1e3, 1e9, 1e200)
    )
    return _put(text, place, rng.choice((f"{value:g}", repr(value), f"{value:.0f}"[:400])))


def _exchange(text: str, rng: random.Random) -> str:
    if len(found := _numbers(text)) < 2:
        return text
    first, second = sorted(rng.sample(found, 2), key=re.Match.start)
    return _put(_put(text, second, first.group()), first, second.group())


def _insert(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(_TOKENS) + text[place:]


def _replace(text: str, rng: random.Random) -> str:
    if not (found := list(re.finditer(r"[\w.\-]+", text))):
        return text
    return _put(text, rng.choice(found), rng.choice(_TOKENS))


def _damage(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged[: rng.randint(1, len(damaged))] if rng.random() < 0.3 else damaged)
