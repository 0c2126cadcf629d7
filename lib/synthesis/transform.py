"""One source image as the target camera would have taken it: the work that 01 does file by file, and training
crop by crop.

:class:`Draw` is what chance decides about one image, :class:`Target` what is known of the target camera. The same
draw gives the same pixels for a crop as for the whole, but for noise, JPEG blocks and a blur's last pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from lib.dataset import image_files
from lib.camera import models, mirror, remap
from lib.target import appearance, overlay_groups
from lib.target.overlay import Overlay
from lib.errors import InputError
from lib.files import read_yaml, whole_file, write_yaml

APPEARANCES = ("statistics", "fourier", "none")
"""Ways to match colours, see :mod:`lib.target.appearance`; ``none`` leaves out noise, blur and JPEG as well."""

RANGES = {
    "field": (0.0, 1.0),
    "zoom": (0.0, 1.0),
    "bend": (-0.02, 0.02),
    "yaw": (-0.05, 0.05),
    "pitch": (-0.05, 0.05),
    "roll": (-0.05, 0.05),
    "right": (-0.05, 0.05),
    "down": (-0.05, 0.05),
    "forward": (-0.1, 0.1),
    "frame": (0.0, 1.0),
    "blur": (0.0, 0.8),
    "noise": (0.0, 1.5),
    "jpeg": (30.0, 130.0),
    "vignette": (0.0, 0.15),
    "grain": (0.0, 1.0),
    "plate": (0.0, 1.0),
}
"""What a :class:`Draw` is drawn from, evenly."""

MOTION = ("yaw", "pitch", "roll", "right", "down", "forward")
"""Of these, what moves the target camera; with the focal length, seven degrees of freedom."""

GUESSED_HALF_FIELD = (0.55, 1.15)
"""Angle (rad) between the axis and the source image's side where no lens is known; the target's is the same."""
GUESSED_ZOOM = (0.9, 1.25)
"""Scale of a guessed lens; at 1 the bent source just fills the target's width."""
FITTED_ZOOM = (0.94, 1.06)
"""Scale of a fitted lens."""
SOURCE_VIEW = (0.9, 2.0)
"""Horizontal field of view (rad) that a source image is taken to have where nothing else is said."""
WIDEST = 1.3
"""Largest half field (rad) that a source image is taken to have."""


@dataclass(frozen=True)
class AugmentParams:
    """What chance decides about one image.

    Attributes:
        field, zoom: place (0-1) in the ranges of the source's field of view and of the target's focal length.
        bend: added to a fitted lens's first coefficient.
        yaw, pitch, roll: turn of the target camera (rad).
        right, down, forward: its shift, in units of the distance at which the street is taken to be.
        frame: the target frame whose colours the image takes on, as a fraction of their number.
        blur: pixels.
        noise: in units of the noise seen in the target's surroundings.
        jpeg: quality; above 100, no compression.
        vignette: darkening of the corners (0-1).
        grain: which noise (0-1).
        plate: which of the target's surroundings, where there are several (0-1).
    """

    field: float
    zoom: float
    bend: float
    yaw: float
    pitch: float
    roll: float
    right: float
    down: float
    forward: float
    frame: float
    blur: float
    noise: float
    jpeg: float
    vignette: float
    grain: float
    plate: float

    @classmethod
    def by(cls, rng: np.random.Generator) -> AugmentParams:
        """A random one."""
        return cls(**{name: float(rng.uniform(*limits)) for name, limits in RANGES.items()})

    @classmethod
    def middle(cls, **changed: float) -> AugmentParams:
        """No turn, no shift, nothing done to the image; but for what is ``changed``."""
        still = {name: 0.0 for name in RANGES} | {"field": 0.5, "zoom": 0.5, "jpeg": 101.0}
        return cls(**still | changed)


@dataclass(frozen=True)
class TargetCamera:
    """The target camera as far as it is known.

    Attributes:
        surroundings: what it sees of itself; where that changed between its frames, what it saw most often.
        lens: its fitted or given camera; None: every image draws its own from a guessed family.
        source: the given source camera; None: it is drawn. With it, nothing about the two lenses is left to
            chance.
        statistics: ``float32 (N, 2, 3)``, colours of target frames.
        thumbs: ``uint8 (N, 72, 128, 3)``, small copies of them.
        photometric: one of :data:`PHOTOMETRIC`.
        others: what else it saw of itself.
        shares: how often it saw each of them, the first one first; they sum to 1.
        shown: ``int (N,)``, which of them the target frame of each look shows; None: all show the first.
        motion: whether the camera turns and shifts from image to image.
        source_view: least and largest horizontal field of view (rad) that a source image is taken to have where the
            lens is known and its own camera is not.
        mirror: whether mirror images of the source fill the view beyond it, see :mod:`lib.camera.mirror`.
    """

    surroundings: Overlay
    lens: models.Camera | None
    source: models.Camera | None
    statistics: np.ndarray
    thumbs: np.ndarray
    photometric: str = "statistics"
    others: tuple[Overlay, ...] = ()
    shares: tuple[float, ...] = (1.0,)
    shown: np.ndarray | None = None
    motion: bool = True
    source_view: tuple[float, float] = SOURCE_VIEW
    mirror: bool = True

    def __post_init__(self):
        if self.photometric not in APPEARANCES:
            raise InputError(f"photometric: {self.photometric!r} (expected one of: {', '.join(APPEARANCES)})")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the target's images."""
        return self.surroundings.mask.shape[::-1]

    def scaled(self, size: tuple[int, int]) -> TargetCamera:
        """The same camera with images of (width, height)."""
        if size == self.size:
            return self
        first, *others = (one.scaled(size) for one in self.all_surroundings)
        return replace(self, surroundings=first, others=tuple(others))

    @property
    def all_surroundings(self) -> tuple[Overlay, ...]:
        """All that it saw of itself, the most frequent first."""
        return self.surroundings, *self.others

    def fitting(self, frame: np.ndarray) -> Overlay:
        """Which of its surroundings a frame ``uint8 (H, W, 3)`` of any size shows."""
        return self.all_surroundings[overlay_groups.match_overlay(self.all_surroundings, frame)]

    def cameras(self, draw: AugmentParams, source_size: tuple[int, int]) -> tuple[models.Camera, models.Camera]:
        """Source and target camera of one draw, for a source image of (width, height)."""
        if self.lens is None:
            return guessed_cameras(draw.field, draw.zoom, source_size, self.size)
        target = self.lens.scaled(self.size)
        if self.source is not None:
            return self.source.scaled(source_size), target
        zoom = _place(FITTED_ZOOM, draw.zoom)
        target = replace(target, fx=target.fx * zoom, fy=target.fy * zoom)
        if isinstance(target, models.Fisheye):
            target = replace(target, k=(target.k[0] + draw.bend, *target.k[1:]))
        half = min(WIDEST, _place(self.source_view, draw.field) / 2)
        return models.Pinhole.from_fov(source_size, 2 * half), target

    @cached_property
    def _cells(self) -> list[np.ndarray]:
        return [mirror.cells(own.mask) for own in self.all_surroundings]

    def bend(
        self, image: np.ndarray, label: np.ndarray, draw: AugmentParams, region: tuple[int, int, int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """One source image as the target camera would have seen it.

        Args:
            image: ``uint8 (h, w, 3)`` RGB.
            label: ``uint8 (h, w)`` class ids.
            draw: what chance decided.
            region: (x, y, width, height) of the target image to make; None for all of it.

        Returns:
            ``uint8 (H, W, 3)`` RGB and ``uint8 (H, W)`` class ids with Background; IGNORE where neither the source
            nor the surroundings show anything.
        """
        if not self.motion:
            draw = replace(draw, **dict.fromkeys(MOTION, 0.0))
        source, target = self.cameras(draw, label.shape[::-1])
        turn = remap.rotation(draw.yaw, draw.pitch, draw.roll)
        which = min(int(np.searchsorted(np.cumsum(self.shares), draw.plate, side="right")), len(self.others))
        plate, shift = self.all_surroundings[which], (draw.right, draw.down, draw.forward)
        if self.mirror and isinstance(source, models.Pinhole):
            table = mirror.cached_mirror_remap(target, source, turn, region, shift, self._cells[which])
        else:
            table = remap.cached_remap(target, source, turn, region, shift)
        bent, label = table.image(image), table.label(label)
        if self.photometric == "none":
            return plate.paste(bent, label, None, region)
        bent = self._recolour(bent, image, table, self._look(draw.frame, which))
        bent = appearance.darken(bent, draw.vignette, region or (0, 0, *self.size), self.size)
        bent = appearance.blur(bent, draw.blur)
        bent = appearance.add_noise(bent, draw.noise * plate.noise, draw.grain)
        rng = np.random.default_rng(int(draw.grain * 2**32))
        bent, label = plate.paste(bent, label, rng, region)
        return appearance.compress(bent, int(draw.jpeg)) if draw.jpeg <= 100 else bent, label

    def _look(self, place: float, which: int) -> int:
        """The target frame at ``place`` (0-1) among those that show the surroundings of this number."""
        frames = np.arange(len(self.thumbs))
        if self.shown is not None and (self.shown == which).any():
            frames = np.flatnonzero(self.shown == which)
        return int(frames[min(int(place * len(frames)), len(frames) - 1)])

    def _recolour(
        self, bent: np.ndarray, image: np.ndarray, table: remap.Remap | mirror.MirrorRemap, frame: int
    ) -> np.ndarray:
        small = appearance.thumbnail(image)
        if self.photometric == "statistics":
            # From whole images, so that a crop of sky alone is not taken for a grey street.
            return appearance.transfer(bent, appearance.statistics(small), self.statistics[frame])
        change = appearance.fourier_change(small, self.thumbs[frame])
        # It changes so slowly that a place in every fourth row and column is enough.
        (across, down), (height, width) = np.array(appearance.THUMBNAIL_SIZE) / image.shape[1::-1], bent.shape[:2]
        x, y = (np.float32(n) * (plane[1::4, 1::4] + 0.5) - 0.5 for n, plane in ((across, table.x), (down, table.y)))
        few = cv2.remap(change, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = cv2.resize(few, (4 * few.shape[1], 4 * few.shape[0]), interpolation=cv2.INTER_LINEAR)
        change = cv2.copyMakeBorder(change, 0, 4, 0, 4, cv2.BORDER_REPLICATE)[:height, :width]
        return cv2.add(bent, change, dtype=cv2.CV_8U)

    def write(self, folder: str | Path, **notes) -> None:
        """Keep it in ``folder``: background.png, plate.png, looks.npz and camera.yaml, which takes ``notes`` too.

        Further surroundings are background_1.png, plate_1.png and so on.
        """
        folder, looks, several = Path(folder), {"statistics": self.statistics, "thumbs": self.thumbs}, []
        for number, own in enumerate(self.all_surroundings):
            end = _end(number)
            image_files.write_png(folder / f"background{end}.png", own.mask.astype(np.uint8) * 255)
            image_files.write_png(folder / f"plate{end}.png", own.plate)
            looks[f"deviation{end}"] = own.deviation.astype(np.float16)
            several.append({"share": self.shares[number], "noise": own.noise, "gains": list(own.gains)})
        if self.shown is not None:
            looks["shown"] = self.shown
        with whole_file(folder / "looks.npz") as temporary:
            np.savez_compressed(temporary, **looks)
        known = {"source": self.source, "target": self.lens}
        described = {name: camera and camera.to_dict() for name, camera in known.items()}
        look = {
            "photometric": self.photometric, "motion": self.motion, "source_view": list(self.source_view),
            "mirror": self.mirror, "surroundings": several,
        }  # fmt: skip
        write_yaml(folder / "camera.yaml", {**described, **look, **notes})

    @classmethod
    def read(cls, folder: str | Path) -> TargetCamera:
        """What :meth:`write` kept."""
        folder = Path(folder)
        found, looks = read_yaml(folder / "camera.yaml"), np.load(folder / "looks.npz")
        # Folders from before there could be several surroundings tell of the one.
        several = found.get("surroundings") or [{"share": 1.0, "noise": found["noise"], "gains": found["gains"]}]
        first, *others = (
            Overlay(
                image_files.read_label(folder / f"background{end}.png") > 0, image_files.read_image(folder / f"plate{end}.png"),
                looks[f"deviation{end}"].astype(np.float32), own["noise"], tuple(own["gains"]),
            )
            for end, own in ((_end(number), own) for number, own in enumerate(several))
        )  # fmt: skip
        lens, source = (found[name] and models.from_dict(found[name]) for name in ("target", "source"))
        shares = tuple(own["share"] for own in several)
        shown = looks["shown"] if "shown" in looks else None
        looks = looks["statistics"], looks["thumbs"]
        more = found.get("motion", True), tuple(found.get("source_view", SOURCE_VIEW)), found.get("mirror", True)
        return cls(first, lens, source, *looks, found["photometric"], tuple(others), shares, shown, *more)


def _end(number: int) -> str:
    """What is added to the name of a file of surroundings; nothing for the first."""
    return f"_{number}" if number else ""


def guessed_cameras(
    field: float, zoom: float, source_size: tuple[int, int], size: tuple[int, int]
) -> tuple[models.Pinhole, models.Fisheye]:
    """Source and target camera where no lens is known, at a place (0-1) in the ranges of their field and zoom."""
    half, zoom = _place(GUESSED_HALF_FIELD, field), _place(GUESSED_ZOOM, zoom)
    target = models.Fisheye.from_fov(size, 2 * half)
    return models.Pinhole.from_fov(source_size, 2 * half), replace(target, fx=target.fx * zoom, fy=target.fy * zoom)


def _place(limits: tuple[float, float], share: float) -> float:
    return limits[0] + share * (limits[1] - limits[0])


def to_row(draw: AugmentParams) -> dict[str, float]:
    """The draw for a table, six decimals each."""
    return {name: round(value, 6) for name, value in asdict(draw).items()}


assert [field.name for field in fields(AugmentParams)] == list(RANGES)
