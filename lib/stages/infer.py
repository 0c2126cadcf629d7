"""Segment the test images with a run's best checkpoint, or several (stage 03).

Every image's mask is written whole as soon as it is known, so an interrupted run goes on where it stopped. Memory
holds the networks and the probabilities of the images at hand, however many networks, windows and views are averaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib.dataset import image_files, layout
from lib.diagnostics import plots
from lib.errors import InputError
from lib.files import whole_file
from lib.prediction import network, selection, test_time
from lib.run import Run, claim, finished, recorded
from lib.synthesis.target_camera import TargetCamera

_SOME = 32  # images that statistics are taken from


def infer(
    data: str | Path,
    out: str | Path,
    *,
    checkpoint: str | Path | Sequence[str | Path] | None = None,
    sliding: bool | None = None,
    blend: str = "constant",
    flip: bool = False,
    scales: Sequence[float] | str = (1.0,),
    views: int = 0,
    norms: float = 0.0,
    features: float = 0.0,
    background: bool = False,
    islands: float = 0.0,
    batch: int = 1,
    amp: bool | None = None,
    compile: bool = False,
    device: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Stage 03: one class-id PNG per test image in ``out/masks``, overlays in ``out/visualization``.

    Args:
        data: data set in the competition's layout; its ``test`` split is read.
        out: run folder with a finished training.
        checkpoint: a file, a URL or the name of a public release; None: the run's best by validation mIoU.
            ``"target"``: of those that the training kept, the one that does best on the target's frames without
            labels (see :mod:`lib.prediction.selection`). Several: their probabilities are averaged. A file with a
            ``config.py`` beside it (in another run's ``train`` folder) is of the network described there.
        sliding: overlapping windows of the recipe's crop size instead of the whole image; None: as the recipe
            says.
        blend: weight of a window's pixels where windows overlap: ``constant``, ``triangular`` or ``gaussian``.
        flip: average with the mirrored image.
        scales: average over these multiples of the recipe's image size. ``"target"``: the one that does best on the
            target's frames without labels.
        views: average with the predictions on this many virtual pinhole views through the run's lens, where they
            reach; 0: none.
        norms: share (0-1) of the test images' statistics in the batch norms; 0: as trained.
        features: how far (0-1) the statistics of the backbone's maps move from the test images' to the training
            images'; 0: not at all. For networks with and without batch norms.
        background: take Background from the run's mask of the surroundings, and only from there.
        islands: remove regions smaller than this multiple of :data:`lib.prediction.test_time.ISLANDS`; 0: none.
        batch: crops that go through the network together.
        amp: mixed precision; None: as the recipe says, on a GPU.
        compile: have ``torch.compile`` translate the network, which takes a minute or more.
        device: torch device; None: a GPU if there is one.
        overwrite: replace masks made with other parameters or another checkpoint.

    Returns:
        The folder of masks, ``uint8 (H, W)`` PNGs of each test image's own size with class ids 0-12.

    Raises:
        InputError: unfinished training, a checkpoint that does not fit the recipe, faulty test images, a parameter
            out of range.
    """
    import torch

    out = Path(out)
    if checkpoint is None and finished(out, "train") is None:
        raise InputError(f"{out / 'train'} is missing or unfinished. Run 02_train for this run folder first.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if checkpoint == "target":
        checkpoint = selection.select(out, data, device)
    members = _members(out, checkpoint)
    for needed in (file for member in members for file in member):
        if not needed.is_file():
            raise InputError(f"{needed} does not exist. Run 02_train for this run folder first.")
    if scales == "target":
        scales = [selection.select_scale(out, members[0][1], data, device)]
    target = test_time.known_target(out) if views or background else None
    # All that can be refused is refused before `overwrite` deletes former masks.
    _check(len(members), views, target, dict(norms=norms, features=features), islands)
    network.check(blend, scales, batch)
    layout.check(data, ("test",))
    names = [f"{file.name} sha256:{_digest(file)}" for _, file in members]
    # What is off goes unmentioned, so that masks of a version without it stay what was asked for.
    off = dict(blend="constant", views=0, norms=0, features=0, background=False, islands=0, amp=None, target=[])
    given = dict(
        blend=blend,
        views=views,
        norms=norms,
        features=features,
        background=background,
        islands=islands,
        amp=amp,
        target=_target_digests(out) if target else [],
    )
    parameters = {
        "data": str(Path(data).resolve()),
        "checkpoint": names[0] if len(names) == 1 else names,
        "sliding": sliding,
        "flip": flip,
        "scales": [float(s) for s in scales],
        **{name: value for name, value in given.items() if value != off[name]},
    }
    items = layout.read_split(data, "test")
    frames, source = _some(items), _some(layout.read_split(out / "augmented", "train_source")) if features else ()

    def predictor() -> Predictor:
        return Predictor(
            *members[0],
            more=members[1:],
            sliding=sliding,
            blend=blend,
            flip=flip,
            scales=scales,
            views=views,
            norms=norms,
            features=features,
            frames=frames,
            source=source,
            background=background,
            islands=islands,
            target=target,
            batch=batch,
            amp=amp,
            compile=compile,
            device=device,
        )

    masks = claim(out / "masks", parameters, overwrite=overwrite)
    pictures = claim(out / "visualization", parameters, overwrite=overwrite)
    files = {item.id: (masks / f"{item.id}.png", pictures / f"{item.id}.jpg") for item in items}
    todo = [item for item in items if not all(path.exists() for path in files[item.id])]
    if not todo and finished(out, "infer"):
        return masks
    with recorded(out, "infer", parameters) as results:
        with tqdm(desc="infer", unit="image", initial=len(items) - len(todo), total=len(items), mininterval=1) as bar:
            for item, image, label in predictor().labels_of(todo):
                mask, picture = files[item.id]
                image_files.write_png(mask, label)
                _write_picture(picture, image, label)
                bar.update()
        results.update(images=len(items), device=device)
    return masks


class Predictor:
    """One or several trained networks that label images of one camera.

    Args:
        config: ``train/config.py`` of the run that trained the network.
        checkpoint: weights that fit it.
        more: further pairs of config and checkpoint, averaged with the first.
        views, background, islands: see :func:`infer`; the first two need ``target``.
        norms, features, frames, source: see :func:`infer`; ``frames`` are image files of the target, to which the
            network adapts, ``source`` some that it was trained on.
        target: the camera, see :class:`lib.synthesis.target_camera.TargetCamera`.
        compile: see :func:`infer`.
        parameters: of :class:`lib.prediction.network.Network`.

    Raises:
        InputError: a checkpoint does not fit its config, a parameter is out of range, or the lens is not known.
    """

    def __init__(
        self,
        config,
        checkpoint,
        *,
        more: Sequence[tuple] = (),
        views: int = 0,
        norms: float = 0.0,
        features: float = 0.0,
        frames: Sequence[str | Path] = (),
        source: Sequence[str | Path] = (),
        background: bool = False,
        islands: float = 0.0,
        target: TargetCamera | None = None,
        compile: bool = False,
        **parameters,
    ):
        _check(1 + len(more), views, target, dict(norms=norms, features=features), islands)
        self.views, self.background, self.islands, self.target = views, background, islands, target
        self.networks = [network.Network(*member, **parameters) for member in [(config, checkpoint), *more]]
        for one in self.networks:
            one.make_ready(norms=norms, features=features, frames=frames, source=source, compile=compile)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``uint8 (H, W, 3)`` RGB to ``uint8 (H, W)`` class ids."""
        return self.labels([image])[0]

    def probabilities(self, image: np.ndarray):
        """``uint8 (H, W, 3)`` RGB to ``float32 (classes, H, W)`` on the predictor's device."""
        return self._probabilities([image])[0]

    def labels(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Images of one size, as :meth:`__call__` labels each."""
        found = []
        for image, probabilities in zip(images, self._probabilities(images), strict=True):
            background = test_time.overlay_mask(self.target, image) if self.background else None
            label = test_time.decide(probabilities, background)
            found.append(test_time.remove_islands(label, self.islands) if self.islands else label)
        return found

    def labels_of(self, items: Sequence[layout.Item]) -> Iterator[tuple[layout.Item, np.ndarray, np.ndarray]]:
        """Each item with its image and label, in order; as many of one size are read together as fill a batch."""
        group: list[tuple[layout.Item, np.ndarray]] = []
        for item in items:
            image = image_files.read_image(item.image)
            if group and (image.shape != group[0][1].shape or len(group) >= self._together(image.shape[:2])):
                yield from self._finish(group)
                group = []
            group.append((item, image))
        if group:
            yield from self._finish(group)

    def _finish(self, group):
        for (item, image), label in zip(group, self.labels([image for _, image in group]), strict=True):
            yield item, image, label

    def _together(self, shape: tuple[int, int]) -> int:
        return max(-(-one.batch // one.crops(shape)) for one in self.networks)

    def _probabilities(self, images: Sequence[np.ndarray]):
        """``float32 (N, classes, H, W)``: the networks' mean, and where views reach, their weighted mean with it."""
        total = self._mean(images)
        if not self.views:
            return total
        shape, weight = images[0].shape[:2], 1.0
        lens, limits = self.target.lens.scaled(shape[::-1]), test_time.street(self.target)
        for view in test_time.rectified_views(lens, self.views, limits):
            total += view.to_lens_image(self._mean([view.there.image(image) for image in images], shape))
            weight = weight + view.weight
        return total / total.new_tensor(weight)

    def _mean(self, images: Sequence[np.ndarray], like: tuple[int, int] | None = None):
        total = 0.0
        for one in self.networks:
            total = total + one.probabilities(images, like)
        return total / len(self.networks)


def _members(out: Path, checkpoint) -> list[tuple[Path, Path]]:
    """Config and file of every checkpoint."""
    from lib.internimage.checkpoints.releases import fetch  # here, since it takes mmseg's seconds to import

    if checkpoint is None:
        files = [Run(out).best_checkpoint()]
    else:
        files = [fetch(one) for one in ([checkpoint] if isinstance(checkpoint, str | Path) else checkpoint)]
    beside = [file.parent / "config.py" for file in files]
    configs = [own if own.is_file() else out / "train" / "config.py" for own in beside]
    return list(zip(configs, files, strict=True))


def _check(members: int, views: int, target: TargetCamera | None, shares: dict, islands: float) -> None:
    if not members:
        raise InputError("checkpoint: an empty list (expected: one file or more)")
    if views < 0 or views != int(views):
        raise InputError(f"views: {views!r} (expected: a whole number, 0 for none)")
    if views and (target is None or target.lens is None):
        raise InputError("views: the target's lens is not known. Run 01_augment with a fitted or given lens first.")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name}: {share!r} (expected: 0 to 1; 0 leaves the network as trained)")
    if islands < 0:
        raise InputError(f"islands: {islands!r} (expected: 0 for none, or a factor above)")


def _write_picture(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    with whole_file(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(plots.blend_label(image, label), cv2.COLOR_RGB2BGR))


def _some(items: Sequence[layout.Item]) -> list[Path]:
    """Images of a split, evenly spread; the same ones whichever are done."""
    return [items[i].image for i in np.unique(np.linspace(0, len(items) - 1, _SOME).round().astype(int))]


def _target_digests(out: Path) -> list[str]:
    folder = out / "augmented"
    return [_digest(path) for path in (folder / "camera.yaml", *sorted(folder.glob("overlay_mask*.png")))]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
