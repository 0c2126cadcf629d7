"""Camera files that do not describe the cameras of the images, or describe none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from lib.camera.yaml_files import read_cameras
from lib.dataset import layout
from lib.errors import InputError
from lib.stages.augment import AugmentOptions, augment
from lib.synthesis.given_cameras import check_cameras, covered_share
from tests.faults.outcome import refused

SIZE = (480, 270)
SOURCE = {"model": "Pinhole", "width": 480, "height": 270, "fx": 330, "fy": 330, "cx": 239.5, "cy": 134.5}
TARGET = SOURCE | {"model": "Fisheye", "fx": 160, "fy": 160, "k": [0.01, 0.0, 0.0, 0.0]}


def text(source: dict = SOURCE, target: dict = TARGET) -> str:
    """Return a camera file; values are written as they stand."""
    rows = (
        f"{name}: {{{', '.join(f'{k}: {v}' for k, v in camera.items())}}}" for name, camera in cameras(source, target)
    )
    return "\n".join(rows) + "\n"


def cameras(source: dict, target: dict):
    return ("source", source), ("target", target)


def source(**changed) -> str:
    return text(source=SOURCE | changed)


def target(**changed) -> str:
    return text(target=TARGET | changed)


def feed(path: Path, source_size: tuple[int, int] = SIZE, target_size: tuple[int, int] = SIZE) -> None:
    check_cameras(path, read_cameras(path), [source_size], [target_size])


def is_refused(content: str | bytes, naming: str, folder: Path, **sizes) -> None:
    path = folder / "cameras.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    refused(partial(feed, **sizes), path, naming=naming)
    try:
        feed(path, **sizes)
    except InputError as error:
        message = str(error)
        assert message.startswith(str(path)) and "\n" not in message and len(message) < 600, message
        for word in ("Error", "object is not", "not supported between", "NoneType", "unhashable", "argument"):
            assert word not in message, message


def is_accepted(content: str | bytes, folder: Path, **sizes) -> None:
    path = folder / "cameras.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    feed(path, **sizes)
    found = read_cameras(path)
    assert 0.2 <= covered_share(*found) <= 1
    assert found[1].scaled(SIZE).unproject([[479.5, 134.5]])[0, 0] > 0.9, found[1]


def write_set(folder: Path, source_size: tuple[int, int], target_size: tuple[int, int]) -> None:
    """Write a data set of two images per split."""
    for name, columns in layout.SPLITS.items():
        size = source_size if "gt_path" in columns else target_size
        rows = []
        for i in range(2):
            image = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{name}_{i}.png"), image)
            cv2.imwrite(str(folder / f"{name}_{i}_gt.png"), image[..., 0] % 12)
            rows.append([f"{name}_{i}", f"./{name}_{i}.png", f"./{name}_{i}_gt.png"][: len(columns)])
        layout.write_table(folder / f"{name}.csv", columns, rows)


def stage_refuses(content: str, naming: str, source_size, target_size, folder: Path) -> None:
    """The stage refuses the cameras before it makes its folder."""
    write_set(folder, source_size, target_size)
    path, out = folder / "cameras.yaml", folder / "run"
    path.write_text(content)
    refused(augment, AugmentOptions(data=str(folder), out=str(out), cameras_file=str(path)), naming=naming)
    assert not (out / "augmented").exists(), "claimed"


def no_file(make: Callable[[Path], object], naming: str, folder: Path) -> None:
    path = folder / "cameras.yaml"
    make(path)
    refused(read_cameras, path, naming=naming)


def _mapping_bomb() -> str:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join([*rows, "source: *a9", "target: *a9"])


_RADIAL = {"model": "RadialPolynomial", "fx": 1, "fy": 1}
_RADIAL_TARGET = {key: value for key, value in TARGET.items() if key != "k"} | _RADIAL
_DEGREES = [round(a * (np.pi / 180) ** n, 9) for n, a in enumerate((160.0, 1.0, 1.0, 0.1), start=1)]
_WIDE = SOURCE | {"width": 2048, "height": 1024, "cx": 1023.5, "cy": 511.5}

_REFUSED: dict[str, tuple[str | bytes, str]] = {
    # cameras of other images
    "another aspect, target": (target(height=360, cy=179.5), "480×360 px (aspect ratio 1.33), but images of 480×270"),
    "another aspect, source": (source(width=640, height=480, cx=319.5, cy=239.5), "source: a camera of 640×480"),
    "width and height exchanged, target": (
        target(width=270, height=480, cx=134.5, cy=239.5),
        "exchange width and height",
    ),
    "width and height exchanged, source": (
        source(width=270, height=480, cx=134.5, cy=239.5),
        "exchange width and height",
    ),
    "source and target exchanged": (text(TARGET, SOURCE), "exchange the two"),
    "aspect off by three per cent": (target(height=278, cy=138.5), "480×278"),
    # other units
    "focal length in image widths, target": (target(fx=0.333, fy=0.333), "in pixels"),
    "focal length in image widths, source": (source(fx=0.6875, fy=0.6875), "in pixels"),
    "all in image widths, target": (target(fx=0.333, fy=0.333, cx=0.5, cy=0.5), "in pixels"),
    "all in image widths, source": (source(fx=0.6875, fy=0.6875, cx=0.5, cy=0.5), "in pixels"),
    "principal point in image widths": (target(cx=0.5, cy=0.5), "cx is 0.5"),
    "focal length in millimetres, target": (target(fx=1.6, fy=1.6), "covers 0%"),
    "focal length in millimetres, source": (source(fx=4.0, fy=4.0), "field of view 178"),
    "focal length in micrometres": (target(fx=160000, fy=160000), "field of view 0.17"),
    "degrees instead of radians": (text(target=_RADIAL_TARGET | {"a": _DEGREES}), "covers"),
    "focal length a tenth": (target(fx=16, fy=16), "covers"),
    "focal length of the other axis in image heights": (target(fy=0.6), "fy is 0.6"),
    # lenses that do not exist
    "principal point left of the image": (target(cx=-20), "cx is -20, outside"),
    "principal point below the image": (target(cy=400), "cy is 400, outside"),
    "principal point of the source outside": (source(cx=700), "source: cx is 700"),
    "principal point offset instead of its place": (target(cx=3.2, cy=-2.1), "outside or on the border"),
    "distortion that folds": (target(k="[-1.0, 0, 0, 0]"), "folds at 33°"),
    "distortion that folds at once": (target(k="[-100, 0, 0, 0]"), "folds"),
    "distortion that explodes": (target(k="[-0.6, 8.0, -42.0, 78.0]"), "enlarges the border"),
    "distortion of a pinhole model": (target(k="[-0.35, 0.15, 0.001, -0.0005]"), "orthographic"),
    "distortion far beyond any lens": (target(k="[1e8, 1e8, 1e8, 1e8]"), "target: "),
    "source whose distortion folds": (text({**TARGET, "fx": 330, "fy": 330, "k": [-0.9, 0, 0, 0]}), "source"),
    "source too narrow": (source(fx=900, fy=900), "covers"),
    "source of a telescope": (source(fx=9000, fy=9000), "field of view 3.05"),
    "focal length 0": (target(fx=0), "fx is 0"),
    "negative focal length": (target(fx=-160), "fx is -160"),
    # values that are none
    "not a number": (target(fx=".nan"), "fx is '.nan'"),
    "infinite": (target(cx=".inf"), "cx is '.inf'"),
    "text as number": (target(fx='"160"'), "fx is '160'"),
    "truth value as number": (target(fx="yes"), "fx is 'yes'"),
    "empty value": (target(fx=""), "fx is ''"),
    "date as number": (target(fx="2020-01-01"), "fx is"),
    "octal number": (target(fx="0240"), "fx is '0240'"),
    "minutes and seconds": (target(fx="2:40"), "fx is '2:40'"),
    "400 digits": (target(fx="1" * 400), "fx is 1111"),
    "10000 digits": (target(fx="1" * 10000), "cannot be read"),
    "hexadecimal without end": (target(fx="0x" + "f" * 10000), "cameras.yaml"),
    "half a pixel wide": (target(width=480.5), "width is 480.5"),
    "five coefficients": (target(k="[0.01, 0, 0, 0, 0]"), "four numbers"),
    "coefficients as text": (target(k='"1234"'), "four numbers"),
    "coefficients by name": (target(k="{1: 0.01, 2: 0, 3: 0, 4: 0}"), "four numbers"),
    "coefficients as truth values": (target(k="[no, no, no, no]"), "four numbers"),
    "comma decimals": (source(cy="134,5"), "decimals have a point"),
    "comma decimals in rows": ("source:\n  model: Pinhole\n  fx: 330,5\ntarget: {}\n", "fx"),
    "unknown model": (target(model="Fisheye624"), "known: Pinhole"),
    "list as model": (target(model="[Fisheye]"), "known: Pinhole"),
    "distortion of a pinhole camera": (source(dist="[-0.3, 0.1, 0, 0, 0]"), "dist"),
    "unknown projection": (text(target=_RADIAL_TARGET | {"model": "ClassicFisheye", "kind": "[a]"}), "kind is"),
    "missing field": (text({k: v for k, v in SOURCE.items() if k != "cy"}), "expected: width"),
    # files that are none
    "key twice": (text() + text(), "key source twice"),
    "field twice": (text().replace("fx: 160", "fx: 160, fx: 320"), "line 2: key fx twice"),
    "no target": (text().splitlines()[0], "no `target`"),
    "capital letters": (text().replace("target", "Target"), "no `target`"),
    "a list": ("- 1\n- 2\n", "no mapping"),
    "a number as camera": ("source: 5\ntarget: 6\n", "source: camera: 5"),
    "no camera": ("source:\ntarget:\n", "source: camera: ''"),
    "empty file": ("", "no mapping"),
    "two documents": (text() + "---\n" + text(), "line 3"),
    "open bracket": (text()[:-3], "line"),
    "tab as indent": ("source:\n\tmodel: Pinhole\n", "line 2"),
    "code": ("source: !!python/object/apply:os.system [ls]\ntarget: 1\n", "line 1"),
    "alias bomb": (_mapping_bomb(), "alias"),
    "nested 1000 times": ("source: " + "[" * 1000, "cameras.yaml"),
    "UTF-16": (text().encode("utf-16"), "not UTF-8 text"),
    "Latin-1": ("# camÿra\n".encode("latin-1") + text().encode(), "not UTF-8 text"),
    "NUL bytes": (text().encode() + b"\0\0", "cannot be read"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not UTF-8 text"),
    "too large": ("#" * (1 << 17), "more than 64 kB"),
}

_ACCEPTED: dict[str, str | bytes] = {
    "sound": text(),
    "sound of twice the resolution": target(width=960, height=540, fx=320, fy=320, cx=479.5, cy=269.5),
    "sound with a byte order mark": b"\xef\xbb\xbf" + text().encode(),
    "sound with exponents": target(fx="1.6e2", fy="1.6E+02"),
    "sound with line ends of Windows": text().replace("\n", "\r\n"),
    "sound of another model": text(target=_RADIAL_TARGET | {"a": [160.0, 1.0, 1.0, 0.1]}),
}


def _gone(path: Path) -> None:
    path.unlink(missing_ok=True)


CASES: dict[str, Callable[[Path], None]] = {
    **{f"cameras: {name}": partial(is_refused, *case) for name, case in _REFUSED.items()},
    **{f"cameras: {name}": partial(is_accepted, content) for name, content in _ACCEPTED.items()},
    "cameras: exchanged, sizes differ": partial(
        is_refused, text(TARGET, _WIDE), "exchange source and target", source_size=(2048, 1024)
    ),
    "cameras: sound, sizes differ": partial(
        is_accepted, text(_WIDE | {"fx": 1100, "fy": 1100}), source_size=(1024, 512)
    ),
    "cameras: missing file": partial(no_file, _gone, "does not exist"),
    "cameras: a folder": partial(no_file, Path.mkdir, "not a file"),
    "cameras: a device": partial(no_file, lambda path: path.symlink_to("/dev/zero"), "not a file"),
    "cameras: stage, aspect": partial(stage_refuses, target(height=360, cy=179.5), "480×360", SIZE, SIZE),
    "cameras: stage, focal length": partial(stage_refuses, target(fx=16, fy=16), "covers", SIZE, SIZE),
    "cameras: stage, exchanged": partial(stage_refuses, text(TARGET, SOURCE), "exchange", SIZE, SIZE),
    "cameras: stage, images of 4:3": partial(stage_refuses, text(), "160×120", (96, 54), (160, 120)),
}
