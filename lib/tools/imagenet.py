"""InternImage with its pre-training classifier, and the classifier's accuracy on a folder of images.

State-dict names are those of the public classification checkpoints.
"""

import re
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from lib.errors import InputError
from lib.internimage.backbone import InternImage
from lib.internimage.checkpoints import formats, loading
from lib.internimage.checkpoints.releases import fetch
from lib.internimage.variants import VARIANTS
from ops_dcnv3.layers import activation, normalisation

_MEAN, _STD = np.array((0.485, 0.456, 0.406), np.float32), np.array((0.229, 0.224, 0.225), np.float32)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_EMBEDDING, _PROJECTED, _HEADS, _UPSAMPLING = 1024, 768, 16, 2

SIZES = {"t": 224, "s": 224, "b": 224, "l": 384, "xl": 384, "h": 640, "g": 512}
"""Side in pixels of the square images that each variant's published accuracy on ImageNet-1k is measured with."""


class CrossAttention(nn.Module):
    """Multi-head attention: queries ``(N, Q, C)``, keys and values ``(N, K, C)`` to ``(N, Q, out)``."""

    def __init__(self, channels: int, heads: int, out: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.q_bias, self.k_bias, self.v_bias = (nn.Parameter(torch.zeros(channels)) for _ in range(3))
        self.proj = nn.Linear(channels, out)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        pairs = ((query, self.q, self.q_bias), (key, self.k, self.k_bias), (value, self.v, self.v_bias))
        split = [
            F.linear(x, layer.weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2) for x, layer, bias in pairs
        ]
        return self.proj(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class AttentionPooling(nn.Module):
    """Attention pooling: tokens ``(N, K, C)`` to ``(N, out)``, with their mean as the query."""

    def __init__(self, channels: int, heads: int, out: int, norm_layer: str):
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v = (normalisation(channels, norm_layer) for _ in range(3))
        self.cross_dcn = CrossAttention(channels, heads, out)

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.norm1_q(tokens.mean(1, keepdim=True))
        return self.cross_dcn(query, self.norm1_k(tokens), self.norm1_v(tokens)).squeeze(1)


class InternImageClassifier(InternImage):
    """InternImage and its classifier: normalised images ``(N, 3, H, W)`` to scores ``(N, num_classes)``.

    Args:
        num_classes: number of classes.
        cls_scale: width of the classifier's hidden layer over that of the last stage (T to XL).
        use_clip_projector: pool the maps of the last two stages by attention (H and G) instead of averaging the last.
        **kwargs: arguments of :class:`lib.internimage.InternImage` except ``out_indices``.

    Source: the public classification code of Wang et al., CVPR 2023.
    """

    def __init__(self, num_classes: int = 1000, cls_scale: float = 1.5, use_clip_projector: bool = False, **kwargs):
        super().__init__(**kwargs, out_indices=(2, 3) if use_clip_projector else (3,))
        norm_layer, channels = kwargs.get("norm_layer", "LN"), 8 * kwargs.get("channels", 64)
        self.use_clip_projector = use_clip_projector
        if use_clip_projector:
            widened = nn.Conv2d(channels, _EMBEDDING * _UPSAMPLING**2, 1)
            self.dcnv3_head_x4 = nn.Sequential(widened, nn.PixelShuffle(_UPSAMPLING))
            self.dcnv3_head_x3 = nn.Conv2d(channels // 2, _EMBEDDING, 1)
            self.clip_projector = AttentionPooling(_EMBEDDING, _HEADS, _PROJECTED, norm_layer)
            self.fc_norm = normalisation(_PROJECTED, norm_layer)
            self.head = nn.Linear(_PROJECTED, num_classes)
        else:
            hidden = int(channels * cls_scale)
            norm = normalisation(hidden, "BN", first_in=True, first_out=True)
            act = activation(kwargs.get("act_layer", "GELU"))
            self.conv_head = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), norm, act)
            self.head = nn.Linear(hidden, num_classes)

    def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
        maps = super().forward(image)
        if not self.use_clip_projector:
            return self.head(self.conv_head(maps[0]).mean((2, 3)))
        fine = self.dcnv3_head_x3(maps[0])
        coarse = self.dcnv3_head_x4(maps[1])[..., : fine.shape[2], : fine.shape[3]]  # sizes round up on the way down
        return self.head(self.fc_norm(self.clip_projector((fine + coarse).flatten(2).transpose(1, 2))))


def build(variant: str, num_classes: int = 1000, **changes) -> InternImageClassifier:
    """Build a published classifier, without its weights.

    Args:
        variant: key of :data:`lib.internimage.variants.VARIANTS`.
        num_classes: 1000, or 21841 (ImageNet-22k).
        **changes: arguments that differ from the variant's.
    """
    arguments = VARIANTS[variant] | dict(use_clip_projector=variant in ("h", "g"), drop_path_rate=0.0)
    if variant == "t":
        arguments["layer_scale"] = None  # it has layer scale for segmentation only
    return InternImageClassifier(num_classes, **arguments | changes)


def from_checkpoint(source: str | Path, *, ema: bool = False) -> tuple[InternImageClassifier, int]:
    """Load the classifier of a public checkpoint.

    Args:
        source: file, URL or name, see :func:`lib.internimage.checkpoints.releases.fetch`.
        ema: load the running average of the weights, where the file holds it beside them.

    Returns:
        The network, in evaluation mode, and the side of its images in pixels: the last number of the file's name (as
        in ``internimage_l_22k_192to384.pth``), or that of :data:`SIZES`.

    Raises:
        InputError: the file cannot be read, or holds another network.
    """
    path = fetch(source)
    tensors, *_ = formats.weights(path, ema)
    stem, head = tensors.get("patch_embed.conv2.weight"), tensors.get("head.weight")
    if stem is None or head is None or head.ndim != 2:
        raise InputError(f"{path}: holds no InternImage with a classifier (expected a classification checkpoint).")
    channels = {arguments["channels"]: variant for variant, arguments in VARIANTS.items()}
    if len(stem) not in channels:
        known = ", ".join(map(str, channels))
        raise InputError(f"{path}: an InternImage of {len(stem)} channels (expected a published one: {known}).")
    variant = channels[len(stem)]
    network = build(variant, num_classes=len(head)).eval()
    loading.load_weights(network, path, ema=ema)
    side = re.search(r"_(?:\d+to)?(\d{3})(?:-[0-9a-f]+)?$", path.stem)
    return network, int(side[1]) if side else SIZES[variant]


def prepare(image: Image.Image, size: int) -> Tensor:
    """Resize the shorter side to ``size`` (bicubic), crop the centre and normalise: ``float32 (3, size, size)``."""
    image = image.convert("RGB")
    width, height = image.size
    short = min(width, height)
    image = image.resize((size * width // short, size * height // short), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
    return torch.from_numpy((pixels - _MEAN) / _STD).permute(2, 0, 1)


def read(path: Path, size: int) -> Tensor:
    """Read an image file for the network, see :func:`prepare`.

    Raises:
        InputError: the file is broken.
    """
    try:
        with Image.open(path) as image:
            return prepare(image, size)
    except (OSError, SyntaxError) as error:  # Pillow raises these for a broken file
        raise InputError(f"{path}: not a readable image ({error}); replace or remove it.") from None


def labelled(folder: str | Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """List the images of a folder with one sub-folder per class, as ImageNet's validation images are commonly kept.

    Returns:
        Files with their class (0, 1, … in the order of the sub-folders' names), and the classes' names.

    Raises:
        InputError: no sub-folders, or no images in them.
    """
    folders = sorted(path for path in Path(folder).glob("*") if path.is_dir() and not path.name.startswith("."))
    images = [
        (file, label)
        for label, path in enumerate(folders)
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    ]
    if not images:
        raise InputError(
            f"{folder}: no images (expected one sub-folder per class, with {', '.join(sorted(_SUFFIXES))})."
        )
    return images, [path.name for path in folders]


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy on a folder of images."""

    right: int
    """Number of images with the right class."""
    images: int
    """Number of images."""
    size: int
    """Side of the images, pixels."""

    @property
    def top1(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return self.right / self.images

    def __str__(self) -> str:
        return f"top-1 accuracy {self.top1:.3f} ({self.right} of {self.images} images, {self.size} pixels)"


def evaluate(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    ema: bool = False,
    size: int | None = None,
    batch_size: int = 32,
    workers: int = 4,
    device: str | None = None,
) -> Accuracy:
    """Evaluate a public checkpoint on a folder of images.

    Args:
        checkpoint: file, URL or name, see :func:`from_checkpoint`.
        folder: see :func:`labelled`.
        ema: evaluate the running average of the weights.
        size: side of the images, pixels; ``None``: the checkpoint's.
        batch_size: number of images per batch.
        workers: number of threads that read images.
        device: torch device; ``None``: a GPU if there is one.

    Raises:
        InputError: a checkpoint that cannot be read, another number of sub-folders than classes, a broken image.
    """
    labelled(folder)  # before a download of minutes
    network, default_size = from_checkpoint(checkpoint, ema=ema)
    return measure(
        network,
        folder,
        size=size or default_size,
        num_classes=network.head.out_features,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )


def measure(
    network: nn.Module,
    folder: str | Path,
    *,
    size: int,
    num_classes: int,
    batch_size: int = 32,
    workers: int = 4,
    device: str | None = None,
) -> Accuracy:
    """Return the accuracy of a classifier, images ``(N, 3, size, size)`` to scores ``(N, num_classes)``.

    Args:
        network: in evaluation mode.
        folder: see :func:`labelled`; has one sub-folder per class of the network.
        size, batch_size, workers, device: see :func:`evaluate`.
        num_classes: number of classes of the network.

    Raises:
        InputError: another number of sub-folders than classes, or a broken image.
    """
    images, classes = labelled(folder)
    if len(classes) != num_classes:
        raise InputError(
            f"{folder}: {len(classes)} sub-folders, and the network knows {num_classes} classes (expected one "
            "sub-folder per class, empty ones included, since their order is the classes' order)."
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)
    right = 0
    with (
        torch.inference_mode(),
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(images), desc="classify", unit="image", mininterval=1) as bar,
    ):
        for batch, labels in _batches(pool, images, size, batch_size):
            right += int((network(batch.to(device)).argmax(1).cpu() == labels).sum())
            bar.update(len(labels))
    return Accuracy(right, len(images), size)


def _batches(pool: Executor, images, size: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches and their labels; read the next batch while the caller works on the present one."""
    chunks = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    coming = None
    for chunk in [*chunks, None]:
        current, coming = coming, chunk and [(pool.submit(read, path, size), label) for path, label in chunk]
        if current:
            yield torch.stack([file.result() for file, _ in current]), torch.tensor([label for _, label in current])
