"""Segment the test images with a run's best checkpoint (stage 03).

Probabilities, not logits, are averaged over scales and flips; windows are mmseg's. Each image's mask is
written whole as soon as it is known, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lib import dataset, figures
from lib.runs import InputError, claim, finished, recorded, whole_file
from lib.training import best_checkpoint


def infer(
    data: str | Path,
    out: str | Path,
    *,
    checkpoint: str | Path | None = None,
    sliding: bool | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    device: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Stage 03: one class-id PNG per test image in ``out/masks``, overlays in ``out/visualization``.

    Args:
        data: data set in the competition's layout; its ``test`` split is read.
        out: run folder with a finished training.
        checkpoint: a file, a URL or the name of a public release; None: the run's best by validation mIoU.
        sliding: overlapping windows of the recipe's crop size instead of the whole image; None: as the recipe
            says.
        flip: average with the mirrored image.
        scales: average over these multiples of the recipe's image size.
        device: torch device; None: a GPU if there is one.
        overwrite: replace masks made with other parameters or another checkpoint.

    Returns:
        The folder of masks, ``uint8 (H, W)`` PNGs of each test image's own size with class ids 0-12.

    Raises:
        InputError: unfinished training, a checkpoint that does not fit the recipe, faulty test images.
    """
    import torch

    out = Path(out)
    config = out / "train" / "config.py"
    if checkpoint is None and finished(out, "train") is None:
        raise InputError(f"{out / 'train'} is missing or unfinished. Run 02_train for this run folder first.")
    if checkpoint is not None:
        from lib.internimage.releases import fetch  # here, since it takes mmseg's seconds to import

        checkpoint = fetch(checkpoint)
    checkpoint = checkpoint or best_checkpoint(out)
    for needed in (config, checkpoint):
        if not needed.is_file():
            raise InputError(f"{needed} does not exist. Run 02_train for this run folder first.")
    if not scales or min(scales) <= 0:
        raise InputError(f"scales: {list(scales)} (expected: one or more positive numbers)")
    dataset.check(data, ("test",))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    parameters = {
        "data": str(Path(data).resolve()), "checkpoint": f"{checkpoint.name} sha256:{_digest(checkpoint)}",
        "sliding": sliding, "flip": flip, "scales": [float(s) for s in scales],
    }  # fmt: skip
    masks = claim(out / "masks", parameters, overwrite)
    pictures = claim(out / "visualization", parameters, overwrite)
    items = dataset.read_split(data, "test")
    files = {item.id: (masks / f"{item.id}.png", pictures / f"{item.id}.jpg") for item in items}
    todo = [item for item in items if not all(path.exists() for path in files[item.id])]
    if not todo and finished(out, "infer"):
        return masks
    with recorded(out, "infer", parameters) as results:
        predictor = Predictor(config, checkpoint, sliding=sliding, flip=flip, scales=scales, device=device)
        for item in tqdm(todo, desc="infer", unit="image", initial=len(items) - len(todo), total=len(items), mininterval=1):
            image = dataset.read_image(item.image)
            label = predictor(image)
            mask, picture = files[item.id]
            dataset.write_png(mask, label)
            _write_picture(picture, image, label)
        results.update(images=len(items), device=device)
    return masks


class Predictor:
    """A trained network that labels one image at a time.

    Args:
        config: ``train/config.py`` of the run that trained it.
        checkpoint: weights that fit it.
        sliding, flip, scales, device: see :func:`infer`.

    Raises:
        InputError: the checkpoint does not fit the config.
    """

    def __init__(self, config, checkpoint, *, sliding=None, flip=False, scales=(1.0,), device="cpu"):
        # While loading, mmseg tells of optional parts that are not installed; nothing here needs them.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from mmengine import Config
            from mmengine.model.utils import revert_sync_batchnorm
            from mmengine.registry import init_default_scope
            from mmseg.registry import MODELS

            from lib.internimage.checkpoints import load_weights

            cfg = Config.fromfile(config)
            init_default_scope("mmseg")
            model = revert_sync_batchnorm(MODELS.build(cfg.model))
        load_weights(model, checkpoint)
        self.model = model.to(device).eval()
        if sliding is not None:
            height, width = cfg.crop_size
            windows = dict(mode="slide", crop_size=(height, width), stride=(height * 2 // 3, width * 2 // 3))
            self.model.test_cfg = type(model.test_cfg)(windows if sliding else dict(mode="whole"))
        self.size, self.flip, self.scales = cfg.scale, flip, tuple(scales)
        self.device, self.amp = device, cfg.amp and str(device).startswith("cuda")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``uint8 (H, W, 3)`` RGB to ``uint8 (H, W)`` class ids."""
        return self.probabilities(image).argmax(0).to("cpu").numpy().astype(np.uint8)

    def probabilities(self, image: np.ndarray):
        """``uint8 (H, W, 3)`` RGB to ``float32 (classes, H, W)`` on the predictor's device."""
        import torch

        total = 0
        with torch.inference_mode():
            for scale in self.scales:
                resized = torch.from_numpy(self._fit(image, scale)).permute(2, 0, 1)[None]
                for mirror in (False, True) if self.flip else (False,):
                    found = self._forward(resized.flip(3) if mirror else resized, image.shape[:2])
                    total = total + (found.flip(2) if mirror else found)
        return total / (len(self.scales) * (1 + self.flip))

    def _fit(self, image: np.ndarray, scale: float) -> np.ndarray:
        """Resize as in training: into the recipe's (width, height) times ``scale``, keeping the proportions."""
        height, width = image.shape[:2]
        factor = scale * min(max(self.size) / max(width, height), min(self.size) / min(width, height))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)

    def _forward(self, batch, shape: tuple[int, int]):
        """Probabilities ``(classes, *shape)`` of one RGB image ``uint8 (1, 3, h, w)``."""
        import torch
        import torch.nn.functional as F

        preprocessor = self.model.data_preprocessor
        inputs = (batch.to(self.device).float() - preprocessor.mean) / preprocessor.std
        size = tuple(inputs.shape[2:])
        metas = [dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])]
        with torch.autocast("cuda", dtype=torch.bfloat16) if self.amp else nullcontext():
            logits = self.model.inference(inputs, metas)
        logits = F.interpolate(logits.float(), size=shape, mode="bilinear", align_corners=False)
        return logits[0].softmax(0)


def _write_picture(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    with whole_file(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(figures.overlay(image, label), cv2.COLOR_RGB2BGR))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
