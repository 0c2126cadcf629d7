"""The target camera and its transform: one source image rendered as that camera would have taken it.

A crop's pixels are those of the whole image, except for noise, JPEG blocks and the last pixels of a blur.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from lib.camera import mirror, models, remap
from lib.camera.mirror import MirrorRemap
from lib.camera.remap import Remap
from lib.dataset import image_files
from lib.files import read_yaml, whole_file, write_yaml
from lib.synthesis.params import MOTION, AugmentParams
from lib.target import appearance
from lib.target.overlay import Overlay
from lib.target.overlay_groups import match_overlay

APPEARANCES = ("statistics", "fourier", "none")
"""Ways to match a target frame's appearance; ``none`` also leaves out noise, blur and JPEG."""

RANDOM_HALF_FOV_RAD = (0.55, 1.15)
"""Range of half the horizontal field of view, of source and target alike, where no lens is known."""
RANDOM_ZOOM = (0.9, 1.25)  # scale of a random lens; at 1 the transformed source just fills the target's width
ESTIMATED_ZOOM = (0.94, 1.06)  # scale of an estimated lens
SOURCE_FOV_RAD = (0.9, 2.0)  # default range of the source's horizontal field of view
MAX_HALF_FOV_RAD = 1.3  # upper limit of half the source's horizontal field of view

_YAML, _APPEARANCE = "camera.yaml", "appearance.npz"


@dataclass(frozen=True)
class TargetCamera:
    """The target camera, as far as it is known.

    Attributes:
        lens: the estimated or given camera; None: each image draws a random lens.
        source: the given source camera; None: each image draws its field of view. With it, neither lens is random.
        statistics: ``float32 (N, 2, 3)``, mean and deviation of the colours of N target frames.
        thumbnails: ``uint8 (N, 72, 128, 3)`` RGB, the same frames.
        more_overlays: less frequent overlays.
        overlay_shares: share of the frames that show each overlay; they sum to 1.
        frame_overlays: ``int (N,)``, the overlay that each frame shows; None: all show the first.
        source_fov: range of the source's horizontal field of view (rad), where its camera is not given.
    """

    overlay: Overlay
    lens: models.Camera | None
    source: models.Camera | None
    statistics: np.ndarray
    thumbnails: np.ndarray
    appearance: str = "statistics"
    more_overlays: tuple[Overlay, ...] = ()
    overlay_shares: tuple[float, ...] = (1.0,)
    frame_overlays: np.ndarray | None = None
    motion: bool = True
    source_fov: tuple[float, float] = SOURCE_FOV_RAD
    mirror: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the target's images."""
        return self.overlay.mask.shape[::-1]

    def scaled(self, size: tuple[int, int]) -> TargetCamera:
        """Return the same camera with images of (width, height)."""
        if size == self.size:
            return self
        first, *more = (overlay.scaled(size) for overlay in self.overlays)
        return replace(self, overlay=first, more_overlays=tuple(more))

    @property
    def overlays(self) -> tuple[Overlay, ...]:
        """All overlays, the most frequent first."""
        return self.overlay, *self.more_overlays

    def match_overlay(self, frame: np.ndarray) -> Overlay:
        """Return the overlay that a frame ``uint8 (H, W, 3)`` of any size shows."""
        return self.overlays[match_overlay(self.overlays, frame)]

    def cameras(self, params: AugmentParams, source_size: tuple[int, int]) -> tuple[models.Camera, models.Camera]:
        """Return source and target camera of one transform, for a source image of (width, height)."""
        if self.lens is None:
            return random_cameras(params.fov, params.zoom, source_size, self.size)
        target = self.lens.scaled(self.size)
        if self.source is not None:
            return self.source.scaled(source_size), target
        zoom = _interpolate(ESTIMATED_ZOOM, params.zoom)
        target = replace(target, fx=target.fx * zoom, fy=target.fy * zoom)
        if isinstance(target, models.Fisheye):
            target = replace(target, k=(target.k[0] + params.k1_offset, *target.k[1:]))
        half = min(MAX_HALF_FOV_RAD, _interpolate(self.source_fov, params.fov) / 2)
        return models.Pinhole.from_fov(source_size, 2 * half), target

    @cached_property
    def _mirror_cells(self) -> list[np.ndarray]:
        return [mirror.cells(overlay.mask) for overlay in self.overlays]

    def transform(
        self,
        image: np.ndarray,
        label: np.ndarray,
        params: AugmentParams,
        region: tuple[int, int, int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Render one source image, ``uint8 (h, w, 3)`` and ``(h, w)``, as the target camera would have taken it.

        ``region``: (x, y, width, height) of the target image to render; None for all of it. The label has Background,
        and IGNORE where neither the source nor the overlay shows anything.
        """
        if not self.motion:
            params = replace(params, **dict.fromkeys(MOTION, 0.0))
        source, target = self.cameras(params, label.shape[::-1])
        turn = remap.rotation(params.yaw, params.pitch, params.roll)
        index = int(np.searchsorted(np.cumsum(self.overlay_shares)[:-1], params.overlay, side="right"))
        overlay, shift = self.overlays[index], (params.right, params.down, params.forward)
        table: Remap | MirrorRemap
        if self.mirror and isinstance(source, models.Pinhole):
            table = mirror.cached_mirror_remap(target, source, turn, region, shift, self._mirror_cells[index])
        else:
            table = remap.cached_remap(target, source, turn, region, shift)
        rendered, label = table.image(image), table.label(label)
        if self.appearance == "none":
            return overlay.paste(rendered, label, None, region)
        rendered = self._match_colours(rendered, image, table, self._frame(params.frame, index))
        rendered = appearance.darken(rendered, params.vignette, region or (0, 0, *self.size), self.size)
        rendered = appearance.blur(rendered, params.blur)
        rendered = appearance.add_noise(rendered, params.noise * overlay.noise, params.noise_seed)
        rng = np.random.default_rng(int(params.noise_seed * 2**32))
        rendered, label = overlay.paste(rendered, label, rng, region)
        return appearance.compress(rendered, int(params.jpeg)) if params.jpeg <= 100 else rendered, label

    def _frame(self, place: float, overlay: int) -> int:
        """Return the frame at ``place`` (0-1) among those that show the overlay of this index."""
        frames = np.flatnonzero(self.frame_overlays == overlay)
        frames = frames if frames.size else np.arange(len(self.thumbnails))
        return int(frames[min(int(place * len(frames)), len(frames) - 1)])

    def _match_colours(
        self, rendered: np.ndarray, image: np.ndarray, table: Remap | MirrorRemap, frame: int
    ) -> np.ndarray:
        thumbnail = appearance.thumbnail(image)
        if self.appearance == "statistics":
            # Statistics of whole images: a crop of sky alone must not become a grey street.
            return appearance.transfer(rendered, appearance.statistics(thumbnail), self.statistics[frame])
        change = appearance.fourier_change(thumbnail, self.thumbnails[frame])
        # The change is smooth enough to be read at every fourth row and column.
        (across, down), (height, width) = np.array(appearance.THUMBNAIL_SIZE) / image.shape[1::-1], rendered.shape[:2]
        x, y = (np.float32(n) * (plane[1::4, 1::4] + 0.5) - 0.5 for n, plane in ((across, table.x), (down, table.y)))
        coarse = cv2.remap(change, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = cv2.resize(coarse, (4 * coarse.shape[1], 4 * coarse.shape[0]), interpolation=cv2.INTER_LINEAR)
        change = cv2.copyMakeBorder(change, 0, 4, 0, 4, cv2.BORDER_REPLICATE)[:height, :width]
        return cv2.add(rendered, change, dtype=cv2.CV_8U)

    def write(self, folder: str | Path, **notes) -> None:
        """Write ``camera.yaml`` (with ``notes``), ``appearance.npz``, and per overlay a mask and an image."""
        folder, arrays, overlays = Path(folder), {"statistics": self.statistics, "thumbnails": self.thumbnails}, []
        for index, (overlay, share) in enumerate(zip(self.overlays, self.overlay_shares, strict=True)):
            mask_file, image_file = _overlay_files(folder, index)
            image_files.write_png(mask_file, overlay.mask.astype(np.uint8) * 255)
            image_files.write_png(image_file, overlay.image)
            arrays[f"deviation{index}"] = overlay.deviation.astype(np.float16)
            overlays.append({"share": share, "noise": overlay.noise, "gains": list(overlay.gains)})
        if self.frame_overlays is not None:
            arrays["frame_overlays"] = self.frame_overlays
        with whole_file(folder / _APPEARANCE) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]  # the stub's allow_pickle
        described = {
            "source": self.source and self.source.to_dict(),
            "target": self.lens and self.lens.to_dict(),
            "appearance": self.appearance,
            "motion": self.motion,
            "source_fov": list(self.source_fov),
            "mirror": self.mirror,
            "overlays": overlays,
        }
        write_yaml(folder / _YAML, described | notes)

    @classmethod
    def read(cls, folder: str | Path) -> TargetCamera:
        """Read what :meth:`write` wrote into ``folder``."""
        folder = Path(folder)
        found, arrays = read_yaml(folder / _YAML), np.load(folder / _APPEARANCE)
        overlays = [
            Overlay(
                read_overlay_mask(folder, index),
                image_files.read_image(_overlay_files(folder, index)[1]),
                arrays[f"deviation{index}"].astype(np.float32),
                described["noise"],
                tuple(described["gains"]),
            )
            for index, described in enumerate(found["overlays"])
        ]
        lens, source = (found[name] and models.from_dict(found[name]) for name in ("target", "source"))
        appearances = arrays["statistics"], arrays["thumbnails"], found["appearance"]
        shares = tuple(described["share"] for described in found["overlays"])
        more = tuple(overlays[1:]), shares, arrays.get("frame_overlays")
        return cls(
            overlays[0], lens, source, *appearances, *more, found["motion"], tuple(found["source_fov"]), found["mirror"]
        )


def is_known(folder: str | Path) -> bool:
    """Return whether ``folder`` holds a target camera."""
    return (Path(folder) / _YAML).is_file()


def files_in(folder: str | Path) -> list[Path]:
    """Return the files of ``folder`` that describe lens and overlays; empty where no target camera was written."""
    folder = Path(folder)
    return [folder / _YAML, *sorted(folder.glob("overlay_mask*.png"))] if is_known(folder) else []


def read_overlay_mask(folder: str | Path, index: int = 0) -> np.ndarray:
    """Read the mask of one overlay, ``bool (H, W)``, from a folder that holds a target camera."""
    return image_files.read_label(_overlay_files(Path(folder), index)[0]) > 0


def _overlay_files(folder: Path, index: int) -> tuple[Path, Path]:
    suffix = f"_{index}" if index else ""
    return folder / f"overlay_mask{suffix}.png", folder / f"overlay{suffix}.png"


def random_cameras(
    fov: float, zoom: float, source_size: tuple[int, int], size: tuple[int, int]
) -> tuple[models.Pinhole, models.Fisheye]:
    """Return source and target camera at a place (0-1) in the ranges of field of view and zoom."""
    half, scale = _interpolate(RANDOM_HALF_FOV_RAD, fov), _interpolate(RANDOM_ZOOM, zoom)
    target = models.Fisheye.from_fov(size, 2 * half)
    source = models.Pinhole.from_fov(source_size, 2 * half)
    return source, replace(target, fx=target.fx * scale, fy=target.fy * scale)


def _interpolate(limits: tuple[float, float], share: float) -> float:
    return limits[0] + share * (limits[1] - limits[0])
