"""One trained network at work: images in, class probabilities out, whole or by overlapping windows, averaged over
scales and mirror images.

Logits are blended where windows overlap, as mmseg does; probabilities are averaged over scales and flips. Memory
holds ``batch`` crops in the network and the sums of the images at hand, whatever the number of windows.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import cv2
import numpy as np

from lib import recipes
from lib.dataset import image_files
from lib.errors import InputError
from lib.prediction import test_time, windows
from lib.recipes import heads

_LEAST = 1e-6  # of such a score


def check(blend: str, scales: Sequence[float], batch: int) -> None:
    """Raise InputError where a parameter of :class:`Network` is out of range."""
    if blend not in windows.BLENDS:
        raise InputError(f"blend: {blend!r} (expected one of: {', '.join(windows.BLENDS)})")
    if (
        not isinstance(scales, list | tuple)
        or not scales
        or not all(isinstance(s, int | float) and s > 0 for s in scales)
    ):
        raise InputError(f"scales: {scales!r} (expected: a list of one or more positive numbers)")
    if batch < 1:
        raise InputError(f"batch: {batch} (expected: 1 or more)")


class Network:
    """A trained network.

    Args:
        config: ``train/config.py`` of the run that trained it.
        checkpoint: weights that fit it.
        sliding: windows of the recipe's crop size, a third overlapping, or the whole image; None: as the recipe says.
        blend: one of :data:`lib.prediction.windows.BLENDS`.
        flip: average with the mirrored image.
        scales: average over these multiples of the recipe's image size.
        batch: crops (windows, or whole images) that go through the network together.
        amp: mixed precision; None: as the recipe says, on a GPU.
        device: torch device.

    Raises:
        InputError: the checkpoint does not fit the config, or a parameter is out of range.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        *,
        sliding: bool | None = None,
        blend: str = "constant",
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        batch: int = 1,
        amp: bool | None = None,
        device: str = "cpu",
    ):
        check(blend, scales, batch)
        # While loading, mmseg tells of optional parts that are not installed; nothing here needs them.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from mmengine import Config
            from mmengine.model.utils import revert_sync_batchnorm
            from mmengine.registry import init_default_scope
            from mmseg.registry import MODELS

            from lib.internimage.checkpoints.loading import load_weights

            cfg = Config.fromfile(config)
            init_default_scope("mmseg")
            model = revert_sync_batchnorm(MODELS.build(recipes.network(cfg)))
        load_weights(model, checkpoint)
        self.model = model.to(device).eval()
        self.scores = heads.gives_scores(model.decode_head)
        self.window, self.stride = _windows(cfg, sliding)
        self.size, self.blend, self.flip, self.scales, self.batch = cfg.scale, blend, flip, tuple(scales), batch
        self.device, self.amp = device, _precision(cfg, amp, device)

    def make_ready(
        self,
        *,
        norms: float = 0.0,
        features: float = 0.0,
        frames: Sequence[str | Path] = (),
        source: Sequence[str | Path] = (),
        compile: bool = False,
    ) -> None:
        """Do once what every call profits from; after it, weights can no longer be loaded.

        Args:
            norms: share (0-1) of the statistics of ``frames`` in the batch norms, see :func:`lib.prediction.test_time.adapt_norms`.
            features: how far (0-1) the statistics of the backbone's maps move from those of ``frames`` to those of
                ``source``, see :func:`lib.prediction.test_time.align_features`.
            frames, source: image files.
            compile: have ``torch.compile`` translate backbone and head when they first run.
        """
        import torch

        from lib.prediction.fusion import fuse

        if features:
            test_time.align_features(self.model, lambda: self._see(source), lambda: self._see(frames), features)
        if norms:
            test_time.adapt_norms(self.model, lambda: self._see(frames), norms)
        if torch.device(self.device).type == "cpu":  # a GPU's time goes elsewhere
            fuse(self.model)
        if compile:
            self.model.backbone.compile()
            self.model.decode_head.forward = torch.compile(self.model.decode_head.forward)

    def _see(self, frames: Sequence[str | Path]) -> None:
        """Pass images through the network, unscaled and unmirrored."""
        import torch

        with torch.inference_mode():
            for image in map(image_files.read_image, frames):
                self._blended(self.inputs([_resized(image, self._factor(image.shape[:2], 1.0))]))

    def crops(self, shape: tuple[int, int]) -> int:
        """Crops that one image of (height, width) is made of at the first of the scales."""
        height, width = (round(n * self._factor(shape, self.scales[0])) for n in shape)
        return (1 + self.flip) * (len(windows.corners((height, width), self.window, self.stride)) if self.window else 1)

    def probabilities(self, images: Sequence[np.ndarray], like: tuple[int, int] | None = None):
        """Class probabilities of images of one size.

        Args:
            images: ``uint8 (H, W, 3)`` RGB each.
            like: (height, width) of the image that the recipe's size is meant for; None: that of the images. A part
                of an image is given the whole's, and is enlarged as much.

        Returns:
            ``float32 (N, classes, H, W)`` on the network's device.
        """
        import torch

        shape, total = images[0].shape[:2], 0
        with torch.inference_mode():
            for scale in self.scales:
                factor = self._factor(like or shape, scale)
                inputs = self.inputs([_resized(image, factor) for image in images])
                total = total + self._mirrored(inputs, shape)
        return total / (len(self.scales) * (1 + self.flip))

    def _factor(self, shape: tuple[int, int], scale: float) -> float:
        """As in training: into the recipe's (width, height) times ``scale``, keeping the proportions."""
        return scale * min(max(self.size) / max(shape), min(self.size) / min(shape))

    def inputs(self, images: Sequence[np.ndarray]):
        """``uint8 (H, W, 3)`` RGB each to what the network takes, ``float32 (N, 3, H, W)``."""
        import torch

        preprocessor = self.model.data_preprocessor
        pixels = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2)
        return (pixels.float() - preprocessor.mean) / preprocessor.std

    def _mirrored(self, inputs, shape: tuple[int, int]):
        """Probabilities ``(N, classes, *shape)``, summed over the mirror images."""
        import torch

        logits = self._blended(torch.cat([inputs, inputs.flip(3)]) if self.flip else inputs)
        found = []
        for i in range(len(inputs)):
            found.append(self._normalised(logits[i], shape))
            if self.flip:
                found[i] += self._normalised(logits[len(inputs) + i], shape).flip(2)
        return torch.stack(found)

    def _normalised(self, logits, shape: tuple[int, int]):
        """``(classes, h, w)`` as the head gives them to probabilities ``(classes, *shape)``."""
        import torch.nn.functional as F

        if logits.shape[1:] != tuple(shape):
            logits = F.interpolate(logits[None], size=shape, mode="bilinear", align_corners=False)[0]
        if not self.scores:
            return logits.softmax(0)
        scores = logits.clamp(min=_LEAST)  # evenly spread where nothing was found
        return scores / scores.sum(0)

    def _blended(self, inputs):
        """Logits ``float32 (N, classes, H, W)`` of normalised images of that size."""
        import torch

        size = tuple(inputs.shape[2:])
        window = tuple(map(min, self.window or size, size))
        places = windows.corners(size, window, self.stride) if self.window else [(0, 0)]
        weight = torch.from_numpy(windows.weights(self.blend, window)).to(inputs)
        if len(places) > 1:
            total, share = inputs.new_zeros(len(inputs), self.model.out_channels, *size), inputs.new_zeros(size)
            for _, *view in _views([(0, *place) for place in places], window):
                share[*view] += weight
        found = []
        everywhere = list(_views([(i, *place) for place in places for i in range(len(inputs))], window))
        for start in range(0, len(everywhere), self.batch):
            crops = everywhere[start : start + self.batch]
            logits = self._logits(torch.stack([inputs[i, :, *view] for i, *view in crops]))
            if len(places) == 1:
                found += logits
                continue
            for (i, *view), one in zip(crops, logits, strict=True):
                total[i, :, *view] += one if self.blend == "constant" else one * weight
        return torch.stack(found) if len(places) == 1 else total.div_(share)

    def _logits(self, crops):
        """What the head says of ``(N, 3, h, w)`` crops, ``float32 (N, classes, h, w)``."""
        import torch

        size = tuple(crops.shape[2:])
        meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
        with torch.autocast(torch.device(self.device).type, self.amp) if self.amp else nullcontext():
            return self.model.encode_decode(crops, [dict(meta) for _ in crops]).float()


def _views(places, window):
    """(image, rows, columns) of the crops whose images and corners are given."""
    for i, y, x in places:
        yield i, slice(y, y + window[0]), slice(x, x + window[1])


def _windows(cfg, sliding: bool | None):
    """(height, width) of the windows and of their steps; None and None for whole images."""
    height, width = cfg.crop_size
    if sliding:
        return (height, width), (height * 2 // 3, width * 2 // 3)
    test = recipes.network(cfg).get("test_cfg", {})
    if sliding is None and test.get("mode") == "slide":
        return tuple(test.crop_size), tuple(test.stride)
    return None, None


def _precision(cfg, amp: bool | None, device: str):
    """The type of mixed precision; None for single precision."""
    import torch

    on_gpu = torch.device(device).type == "cuda"
    if not (cfg.get("amp", False) and on_gpu if amp is None else amp):
        return None
    return torch.float16 if on_gpu and not torch.cuda.is_bf16_supported() else torch.bfloat16


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
