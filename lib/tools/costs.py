"""What a segmentor costs, without having it: parameters, multiply-adds, and memory in training.

Networks are built without memory and run on tensors that have shapes and no values, so that one of three thousand
million parameters is measured in seconds on any machine. Everything counted is a fixed part plus so much per pixel,
for images whose sides are multiples of 32; both are found from two small sizes.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

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
"""Per parameter: float32 weight, gradient, and AdamW's two moments."""
CONTEXT_BYTES = 2**30
"""Taken for what PyTorch does not count: the CUDA context and the libraries' workspaces."""
SEGMENTS = 20
"""Taken for the classes in one image, each of which is a mask in Mask2Former's loss."""
_BATCH, _SIZES = 2, ((256, 256), (256, 512))


@dataclass(frozen=True)
class Line:
    """``fixed + pixel · pixels``."""

    fixed: float
    pixel: float

    def __add__(self, other: Line) -> Line:
        return Line(self.fixed + other.fixed, self.pixel + other.pixel)

    def at(self, pixels: float) -> float:
        return self.fixed + self.pixel * pixels


@dataclass(frozen=True)
class Part:
    """What a backbone or a head costs; pixels are the image's, all images of a batch together."""

    multiply_adds: Line
    saved: Line
    """Bytes kept from the forward for the backward pass, in mixed precision."""
    recomputed: Line
    """The same where the backbone's blocks are recomputed: their inputs, and the insides of the largest."""
    largest: float
    """Bytes per pixel of the largest tensor among them."""


@dataclass(frozen=True)
class Costs:
    """What a segmentor costs."""

    parameters: int
    backbone: Part
    head: Part
    auxiliary: Part | None

    def multiply_adds(self, size: tuple[int, int]) -> float:
        """Of labelling one image of (height, width), multiples of 32; auxiliary heads have no part in it.

        Counted as in the public tables: convolutions and matrix products; DCNv3 as five per sample and channel.
        """
        return sum(part.multiply_adds.at(math.prod(size)) for part in (self.backbone, self.head))

    def training_bytes(self, size: tuple[int, int], batch: int, *, recompute: bool = False, cards: int = 1) -> float:
        """An estimate of a card's peak memory in training with AdamW, in mixed precision (bfloat16).

        The states of the parameters (:data:`STATE_BYTES`) plus what the forward pass saves, plus two of the largest
        saved tensors for the gradients on their way, plus :data:`CONTEXT_BYTES`. The gradients of the parameters and
        all that is saved are taken to be there at once, which they are not quite; fragmentation is not counted.

        Args:
            size: (height, width) of the crops, multiples of 32.
            batch: crops per card.
            recompute: the backbone has ``with_cp``.
            cards: the states are spread over so many, as fully sharded training does.
        """
        pixels = batch * math.prod(size)
        parts = [part for part in (self.backbone, self.head, self.auxiliary) if part]
        saved = sum((part.recomputed if recompute else part.saved).at(pixels) for part in parts)
        passing = 2 * max(part.largest for part in parts) * pixels
        return STATE_BYTES * self.parameters / cards + saved + passing + CONTEXT_BYTES


def measure(recipe) -> Costs:
    """What the network of ``recipe`` (an ``mmengine.Config``, see :func:`lib.recipes.load`) costs.

    Nothing of its size is allocated, and no value is computed.
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
    """A config as a key for the caches."""
    return repr(ConfigDict(part).to_dict())


@cache
def _backbone(config: str) -> tuple[int, Part]:
    network = _build(config)
    return _count(network), _part(network, lambda h, w: torch.empty(_BATCH, 3, h, w), network)


@cache
def _head(config: str, channels: tuple[int, ...]) -> tuple[int, Part]:
    head = _build(config)

    def maps(height: int, width: int) -> list[Tensor]:
        sizes = ((height >> i, width >> i) for i in range(2, 6))
        return [torch.empty(_BATCH, c, *size, requires_grad=True) for c, size in zip(channels, sizes, strict=True)]

    if hasattr(head, "num_queries"):
        part = _part(head, maps, lambda maps: head(maps, [None] * _BATCH))
        loss = Line(0, _mask_loss_bytes(head.num_transformer_decoder_layers + 1))
        return _count(head), replace(part, saved=part.saved + loss, recomputed=part.recomputed + loss)

    def loss(maps: list[Tensor]) -> Tensor:
        size = [4 * side for side in maps[0].shape[2:]]
        logits = F.interpolate(head(maps), size=size, mode="bilinear")
        return F.cross_entropy(logits.float(), torch.empty(_BATCH, *size, dtype=torch.long))

    return _count(head), _part(head, maps, loss)


def _mask_loss_bytes(predictions: int) -> float:
    """Bytes per pixel that Mask2Former's loss keeps: each segment's mask, and its prediction after each layer."""
    truth, prediction = 8, 4 / 16  # int64 at the image's resolution; float32 at a quarter of it each way
    return SEGMENTS * (truth + predictions * prediction)


def _build(config: str) -> nn.Module:
    """The part without memory for its parameters."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import lib.internimage

    config = ConfigDict(ast.literal_eval(config))
    if config.type == MASK2FORMER:
        import lib.recipes.mask2former
    init_default_scope("mmseg")
    with torch.device("meta"):
        return MODELS.build(config)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _part(network: nn.Module, inputs: Callable, run: Callable) -> Part:
    """Cost of ``run(inputs(height, width))`` by lines through two sizes."""
    pixels = [_BATCH * math.prod(size) for size in _SIZES]
    with FakeTensorMode(allow_non_fake_inputs=True), LikeCuda(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parts say that there is no CUDA
        network.to_empty(device="cpu").train()
        low, high = (_forward(network, inputs(*size), run) for size in _SIZES)
    lines = []
    for name in ("multiply_adds", "saved", "recomputed"):
        slope = (getattr(high, name) - getattr(low, name)) / (pixels[1] - pixels[0])
        lines.append(Line(getattr(low, name) - slope * pixels[0], slope))
    # One image's work has its fixed part once, whatever the batch.
    lines[0] = Line(lines[0].fixed / _BATCH, lines[0].pixel)
    return Part(*lines, high.largest / pixels[1])


@dataclass
class _Counted:
    multiply_adds: float
    saved: int
    recomputed: int
    largest: int


def _forward(network: nn.Module, inputs, run: Callable) -> _Counted:
    weights = {tuple(parameter.shape) for parameter in network.parameters()}
    # By their storages, and kept alive, since the key of one that is gone may be used again.
    kept = {parameter.untyped_storage()._cdata: parameter for parameter in network.parameters()}
    sizes: list[int] = []  # of what is saved, in order
    largest = [0]
    blocks: list[tuple[int, int]] = []  # bytes of a block's input, and of what it saves

    def keep(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in kept:
            kept[key] = tensor
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
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
        FlopCounterMode(display=False, custom_mapping={torch.ops.ops_dcnv3.dcnv3: dcnv3_flops}) as counter,
    ):
        run(inputs)
    for handle in handles:
        handle.remove()
    inputs_, insides = zip(*blocks, strict=True) if blocks else ((), ())
    recomputed = sum(sizes) - sum(insides) + sum(inputs_) + max(insides, default=0)
    return _Counted(counter.get_total_flops() / 2, sum(sizes), recomputed, largest[0])


def dcnv3_flops(input, offset, mask, *settings, out_shape) -> int:
    """Twice the multiply-adds: four for the bilinear sample and one for its weight, per sample and channel."""
    groups = settings[8]
    return 2 * 5 * math.prod(out_shape) * (mask[3] // groups)


class LikeCuda(TorchFunctionMode):
    """Fakes on the CPU, run as values would be on a GPU.

    Under autocast norms and softmax are computed, and kept, in float32, which the CPU's autocast leaves alone. And
    small integer tensors that hold a map's size stay real, so that code which reads its sizes from them runs.
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
    """A real tensor of one number as that number."""
    return value if isinstance(value, FakeTensor) or value.ndim else value.item()
