"""Costs of a segmentor: parameters, multiply-adds, and memory in training.

Networks are built without memory and run on tensors with shapes and no values. A network of three thousand million
parameters is measured in seconds on any machine. Every cost is a fixed part plus a part per pixel, for images whose
sides are multiples of 32; both follow from two small sizes.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import ConfigDict
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from lib.internimage.blocks import Block
from lib.recipes.heads import MASK2FORMER

STATE_BYTES = 16
"""Bytes per parameter: float32 weight, gradient, and AdamW's two moments."""
CONTEXT_BYTES = 2**30
"""Assumed memory that PyTorch does not count: the CUDA context and the libraries' workspaces."""
SEGMENTS = 20
"""Assumed number of classes in one image; each is a mask in Mask2Former's loss."""
_BATCH, _SIZES = 2, ((256, 256), (256, 512))


@dataclass(frozen=True)
class Line:
    """A cost that is linear in pixels: ``fixed + pixel · pixels``."""

    fixed: float
    pixel: float

    def __add__(self, other: Line) -> Line:
        return Line(self.fixed + other.fixed, self.pixel + other.pixel)

    def at(self, pixels: float) -> float:
        """Return the value for a number of pixels."""
        return self.fixed + self.pixel * pixels


@dataclass(frozen=True)
class Part:
    """Costs of a backbone or a head; pixels are those of all images of a batch.

    Attributes:
        multiply_adds: of one image.
        saved: bytes that the forward pass saves for the backward pass, in mixed precision.
        checkpointed: the same with activation checkpointing of the backbone's blocks: their inputs, and all of the
            largest block.
        largest: bytes per pixel of the largest saved tensor.
    """

    multiply_adds: Line
    saved: Line
    checkpointed: Line
    largest: float


@dataclass(frozen=True)
class Costs:
    """Costs of a segmentor."""

    parameters: int
    backbone: Part
    head: Part
    auxiliary: Part | None

    def multiply_adds(self, size: tuple[int, int]) -> float:
        """Return the multiply-adds of labelling one image of (height, width), multiples of 32.

        They count as in the public tables: convolutions and matrix products, DCNv3 as five per sample and channel,
        without auxiliary heads.
        """
        return sum(part.multiply_adds.at(math.prod(size)) for part in (self.backbone, self.head))

    def training_bytes(
        self, size: tuple[int, int], batch: int, *, checkpointing: bool = False, devices: int = 1
    ) -> float:
        """Estimate a device's peak memory in training with AdamW, in mixed precision (bfloat16).

        It is the sum of the parameters' states (:data:`STATE_BYTES`), the tensors that the forward pass saves, two of
        the largest of them for gradients in transit, and :data:`CONTEXT_BYTES`. The estimate assumes that all of them
        exist at once, which is slightly too much, and leaves out fragmentation.

        Args:
            size: (height, width) of the crops, multiples of 32.
            batch: crops per device.
            checkpointing: activation checkpointing of the backbone (``with_cp``).
            devices: number of devices that the states are sharded over (FSDP).
        """
        pixels = batch * math.prod(size)
        parts = [part for part in (self.backbone, self.head, self.auxiliary) if part]
        saved = sum((part.checkpointed if checkpointing else part.saved).at(pixels) for part in parts)
        in_transit = 2 * max(part.largest for part in parts) * pixels
        return STATE_BYTES * self.parameters / devices + saved + in_transit + CONTEXT_BYTES


def measure(recipe) -> Costs:
    """Return the costs of a recipe's network, without allocating or computing it.

    Args:
        recipe: ``mmengine.Config``, see :func:`lib.recipes.load`.
    """
    model = recipe.model
    backbone = _frozen(model.backbone | dict(with_cp=False))
    maps = [model.backbone.channels * 2**i for i in range(4)]
    auxiliary = model.get("auxiliary_head")
    heads = [_head(_frozen(part), tuple(maps)) for part in (model.decode_head, auxiliary) if part]
    counted, body = _backbone(backbone)
    parameters = counted + sum(count for count, _ in heads)
    return Costs(parameters, body, heads[0][1], heads[1][1] if auxiliary else None)


def _frozen(part) -> str:
    """Return a config as a hashable key of the caches."""
    return repr(ConfigDict(part).to_dict())


@cache
def _backbone(config: str) -> tuple[int, Part]:
    network = _build(config)
    return _count(network), _part(network, lambda h, w: torch.empty(_BATCH, 3, h, w), network)


@cache
def _head(config: str, channels: tuple[int, ...]) -> tuple[int, Part]:
    head: Any = _build(config)

    def maps(height: int, width: int) -> list[Tensor]:
        sizes = ((height >> i, width >> i) for i in range(2, 6))
        return [torch.empty(_BATCH, c, *size, requires_grad=True) for c, size in zip(channels, sizes, strict=True)]

    if hasattr(head, "num_queries"):
        part = _part(head, maps, lambda maps: head(maps, [None] * _BATCH))
        masks = Line(0, _mask_loss_bytes(head.num_transformer_decoder_layers + 1))
        return _count(head), replace(part, saved=part.saved + masks, checkpointed=part.checkpointed + masks)

    def loss(maps: list[Tensor]) -> Tensor:
        size = [4 * side for side in maps[0].shape[2:]]
        logits = F.interpolate(head(maps), size=size, mode="bilinear")
        return F.cross_entropy(logits.float(), torch.empty(_BATCH, *size, dtype=torch.long))

    return _count(head), _part(head, maps, loss)


def _mask_loss_bytes(predictions: int) -> float:
    """Return the bytes per pixel that Mask2Former's loss saves: each segment's mask and its predictions per layer."""
    truth, prediction = 8, 4 / 16  # int64 at the image's resolution; float32 at a quarter of it each way
    return SEGMENTS * (truth + predictions * prediction)


def _build(config: str) -> nn.Module:
    """Build a part without memory for its parameters."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import lib.internimage

    arguments = ConfigDict(ast.literal_eval(config))
    if arguments.type == MASK2FORMER:
        import lib.recipes.mask2former  # noqa: F401 (registers the head)
    init_default_scope("mmseg")
    with torch.device("meta"):
        return MODELS.build(arguments)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _part(network: nn.Module, inputs: Callable, run: Callable) -> Part:
    """Return the costs of ``run(inputs(height, width))``, as lines through two sizes."""
    pixels = [_BATCH * math.prod(size) for size in _SIZES]
    with FakeTensorMode(allow_non_fake_inputs=True), LikeCuda(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mmcv warns that there is no CUDA
        network.to_empty(device="cpu").train()
        low, high = (_forward(network, inputs(*size), run) for size in _SIZES)
    lines = []
    for name in ("multiply_adds", "saved", "checkpointed"):
        slope = (getattr(high, name) - getattr(low, name)) / (pixels[1] - pixels[0])
        lines.append(Line(getattr(low, name) - slope * pixels[0], slope))
    # The fixed part of the work counts once per image.
    lines[0] = Line(lines[0].fixed / _BATCH, lines[0].pixel)
    multiply_adds, saved, checkpointed = lines
    return Part(multiply_adds, saved, checkpointed, high.largest / pixels[1])


@dataclass
class _Counted:
    multiply_adds: float
    saved: int
    checkpointed: int
    largest: int


def _forward(network: nn.Module, inputs, run: Callable) -> _Counted:
    weights = {tuple(parameter.shape) for parameter in network.parameters()}
    # The dict keeps the storages alive: the key of a freed one may be used again.
    storages: dict[int, Tensor] = {parameter.untyped_storage()._cdata: parameter for parameter in network.parameters()}
    sizes: list[int] = []  # bytes of the saved tensors, in order
    largest = [0]
    blocks: list[tuple[int, int]] = []  # bytes of a block's input and of its saved tensors

    def save(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in storages:
            storages[key] = tensor
            sizes.append(tensor.untyped_storage().nbytes())
            if tuple(tensor.shape) not in weights:
                largest[0] = max(largest[0], sizes[-1])
        return tensor

    def enter(module, args):
        module._saved_before = len(sizes)

    def leave(module, args, out):
        blocks.append((args[0].nbytes, sum(sizes[module._saved_before :])))

    handles = []
    for module in network.modules():
        if isinstance(module, Block):
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
        FlopCounterMode(display=False, custom_mapping={torch.ops.ops_dcnv3.dcnv3: dcnv3_flops}) as counter,
    ):
        run(inputs)
    for handle in handles:
        handle.remove()
    inputs_, insides = zip(*blocks, strict=True) if blocks else ((), ())
    checkpointed = sum(sizes) - sum(insides) + sum(inputs_) + max(insides, default=0)
    return _Counted(counter.get_total_flops() / 2, sum(sizes), checkpointed, largest[0])


def dcnv3_flops(input, offset, mask, *settings, out_shape) -> int:
    """Return twice the multiply-adds: four for the bilinear sample and one for its weight, per sample and channel."""
    groups = settings[8]
    return 2 * 5 * math.prod(out_shape) * (mask[3] // groups)


class LikeCuda(TorchFunctionMode):
    """Mode in which fake tensors on the CPU behave as on a GPU.

    Under autocast, norms and softmax compute and save float32; the CPU's autocast does not do that. Small integer
    tensors that hold a map's size stay real, for code that reads sizes from them.
    """

    _FLOAT32 = (F.layer_norm, F.group_norm, F.softmax, torch.softmax, Tensor.softmax)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch._shape_as_tensor:
            with unset_fake_temporarily():
                return torch.tensor(args[0].shape)
        if func in self._FLOAT32 and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        real = [not isinstance(value, FakeTensor) for value in tensors]
        if all(real) and real:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if any(real):
            with unset_fake_temporarily():
                args, kwargs = tree_map_only(Tensor, _number, (args, kwargs))
        return func(*args, **kwargs)


def _number(value: Tensor):
    """Return a real tensor of one number as that number."""
    return value if isinstance(value, FakeTensor) or value.ndim else value.item()
