"""One trained network: class probabilities of whole images or of overlapping windows."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import recipes
from lib.dataset import image_files
from lib.errors import InputError
from lib.prediction import statistics, windows
from lib.prediction.options import DEFAULTS, TestTimeOptions
from lib.recipes import heads
from lib.recipes.config_file import read_config

_MIN_SCORE = 1e-6  # spreads the probabilities evenly where all scores are 0
_WHOLE = (2**31, 2**31)  # a window that holds any image


class Network:
    """A trained network, from ``train/config.json`` of its run and weights that fit it.

    Raises:
        InputError: the config is faulty, the checkpoint does not fit it, or there is no batch norm to adapt.
    """

    def __init__(self, config: str | Path, checkpoint: str | Path, options: TestTimeOptions = DEFAULTS):
        if isinstance(options.scales, str):
            raise InputError("scales: 'target' (expected: numbers, see lib.prediction.selection.select_scale)")
        with recipes.quiet():
            from lib.internimage.checkpoints.loading import load_weights

            model, cfg = _built(config)
        load_weights(model, checkpoint)
        self.options, self.scales, self.device = options, options.scales, torch.device(options.torch_device())
        self.model = model.to(self.device).eval()
        if options.norm_adaptation:
            statistics.batch_norms(self.model)
        self.gives_scores, self.size = heads.gives_scores(model.decode_head), cfg.scale
        on_gpu = self.device.type == "cuda"
        self.mixed = on_gpu and cfg.get("amp", False) if options.amp is None else options.amp
        self.precision = torch.float16 if on_gpu and not torch.cuda.is_bf16_supported() else torch.bfloat16
        self.window: Sequence[int] = _WHOLE
        self.stride: Sequence[int] = _WHOLE
        test = recipes.network(cfg).get("test_cfg") or {}
        if options.sliding:
            self.window, self.stride = cfg.crop_size, [side * 2 // 3 for side in cfg.crop_size]
        elif options.sliding is None and test.get("mode") == "slide":
            self.window, self.stride = test["crop_size"], test["stride"]

    def prepare(self, frames: Sequence[Path] = (), source: Sequence[Path] = ()) -> None:
        """Adapt the network from images of the training to the target's ``frames``, and make it faster.

        Weights can no longer be loaded afterwards.
        """
        if share := self.options.feature_alignment:
            statistics.align_features(self.model, lambda: self._forward(source), lambda: self._forward(frames), share)
        if share := self.options.norm_adaptation:
            statistics.adapt_batch_norms(self.model, lambda: self._forward(frames), share)
        if self.device.type == "cpu":  # on a GPU these parts take no time
            from lib.prediction.fusion import fuse

            fuse(self.model)
        if self.options.compile:
            self.model.backbone.compile()
            self.model.decode_head.forward = torch.compile(self.model.decode_head.forward)

    @torch.inference_mode()
    def _forward(self, files: Sequence[Path]) -> None:
        """Pass images through the network at the recipe's size."""
        for image in map(image_files.read_image, files):
            self._blended(self.inputs([image], self._factor(image.shape[:2], 1.0)))

    def crops(self, shape: tuple[int, int]) -> int:
        """Return the number of crops of an image of (height, width) at the first scale."""
        size = [round(side * self._factor(shape, self.scales[0])) for side in shape]
        return (1 + self.options.flip) * len(windows.corners(size, self.window, self.stride))

    @torch.inference_mode()
    def probabilities(self, images: Sequence[np.ndarray], reference: tuple[int, int] | None = None) -> Tensor:
        """Return the class probabilities ``float32 (N, classes, H, W)`` of images ``uint8 (H, W, 3)`` RGB.

        Probabilities are averaged over scales and mirror images. ``reference`` is the (height, width) that is scaled to
        the recipe's size, with the images in proportion; None: their own size.
        """
        shape, total = images[0].shape[:2], torch.zeros((), device=self.device)
        for scale in self.scales:
            inputs = self.inputs(images, self._factor(reference or shape, scale))
            logits = self._blended(torch.cat([inputs, inputs.flip(3)]) if self.options.flip else inputs)
            probabilities = torch.stack([self._normalised(x, shape) for x in logits])
            if self.options.flip:
                plain, mirrored = probabilities.chunk(2)
                probabilities = plain + mirrored.flip(3)
            total = total + probabilities
        return total / (len(self.scales) * (1 + self.options.flip))

    def _factor(self, shape: tuple[int, int], scale: float) -> float:
        """Return the enlargement into ``scale`` times the recipe's (width, height), proportions kept as in training."""
        return scale * min(max(self.size) / max(shape), min(self.size) / min(shape))

    def inputs(self, images: Sequence[np.ndarray], factor: float = 1.0) -> Tensor:
        """Enlarge and normalise images ``uint8 (H, W, 3)`` RGB to the network's input, ``float32 (N, 3, h, w)``."""
        height, width = images[0].shape[:2]
        size = max(1, round(width * factor)), max(1, round(height * factor))
        pixels = torch.from_numpy(np.stack([cv2.resize(image, size) for image in images]))
        preprocessor = self.model.data_preprocessor
        return (pixels.to(self.device).permute(0, 3, 1, 2).float() - preprocessor.mean) / preprocessor.std

    def _normalised(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        """Turn the head's output ``(classes, h, w)`` into probabilities ``(classes, *shape)``."""
        if logits.shape[1:] != tuple(shape):
            logits = F.interpolate(logits[None], size=shape, mode="bilinear", align_corners=False)[0]
        if not self.gives_scores:
            return logits.softmax(0)
        scores = logits.clamp(min=_MIN_SCORE)
        return scores / scores.sum(0)

    def _blended(self, inputs: Tensor) -> Tensor:
        """Return the logits ``float32 (N, classes, H, W)`` of normalised images, blended over windows as in mmseg."""
        size = inputs.shape[2:]
        height, width = map(min, self.window, size)
        corners = windows.corners(size, self.window, self.stride)
        blend = self.options.window_blend if len(corners) > 1 else "constant"
        weight = torch.from_numpy(windows.weights(blend, (height, width))).to(inputs)
        total = inputs.new_zeros(len(inputs), self.model.out_channels, *size)
        weights = inputs.new_zeros(size)
        crops = []
        for y, x in corners:
            rows, columns = slice(y, y + height), slice(x, x + width)
            weights[rows, columns] += weight
            crops += [(i, slice(None), rows, columns) for i in range(len(inputs))]
        for start in range(0, len(crops), self.options.crops_per_batch):
            batch = crops[start : start + self.options.crops_per_batch]
            for crop, logits in zip(batch, self._logits(torch.stack([inputs[crop] for crop in batch])), strict=True):
                total[crop] += logits * weight
        return total.div_(weights)

    def _logits(self, crops: Tensor) -> Tensor:
        """Return the head's output for crops ``(N, 3, h, w)``, ``float32 (N, classes, h, w)``."""
        size = tuple(crops.shape[2:])
        meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
        with torch.autocast(self.device.type, self.precision, enabled=self.mixed):
            return self.model.encode_decode(crops, [dict(meta) for _ in crops]).float()


def _built(config: str | Path):
    """Return the network that a config file describes, and the config.

    Raises:
        InputError: the file is no config, or describes no network.
    """
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    cfg = read_config(config)
    init_default_scope("mmseg")
    try:
        network = recipes.network(cfg)
        sizes = {"scale": cfg.scale, "crop_size": cfg.crop_size}
        if (network.get("test_cfg") or {}).get("mode") == "slide":
            sizes |= {f"test_cfg.{name}": network.test_cfg[name] for name in ("crop_size", "stride")}
        for name, size in sizes.items():
            if len(size) != 2 or not all(type(side) is int and 0 < side < _WHOLE[0] for side in size):
                raise ValueError(f"{name}: {size}")
        return revert_sync_batchnorm(MODELS.build(network)), cfg
    except InputError:
        raise
    except Exception as error:  # a network's parts raise any exception on foreign arguments
        found = " ".join(str(error).split())[:200]
        remedy = "give the config of this checkpoint's training"
        raise InputError(f"{config}: describes no network that can be built ({found}); {remedy}.") from error
