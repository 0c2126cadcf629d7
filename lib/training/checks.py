"""Checks of a complete config: what it describes is built, and one batch read, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from typing import Any

import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, PARAM_SCHEDULERS, Registry, init_default_scope
from mmengine.structures import PixelData
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from lib import recipes
from lib.errors import InputError
from lib.internimage import InternImage
from lib.internimage.checkpoints.loading import check_weights
from lib.recipes.datasets import DATA


@contextmanager
def _told(part: str, remedy: str = "Change this entry of the recipe, or its change in options.") -> Iterator[None]:
    """Turn an error of the block into one sentence about a part of the config."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # mmengine, mmseg and torch raise anything
        found = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{part}: {found}. {remedy}") from error


def build_network(cfg: Config) -> nn.Module:
    """Return the network of a complete config on the meta device, without memory for its weights.

    Raises:
        InputError: an argument that the network, or a part of it, does not take.
    """
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.default_scope)
    from mmseg.registry import MODELS

    _check_types(cfg.model, "model")
    with _told("model"), torch.device("meta"):
        return MODELS.build(deepcopy(cfg.model))


def check_config(cfg: Config) -> None:
    """Build what a complete config describes, without computing: network, optimiser, schedule and hooks.

    It takes 4 seconds for InternImage-T on a CPU, most of them for imports. It writes nothing.

    Raises:
        InputError: an entry that cannot be built, parts that do not fit together, or too few crops for a batch norm.
    """
    network = build_network(cfg)
    _check_types(cfg.optim_wrapper, "optim_wrapper")
    with _told("optim_wrapper"):
        optimisation = build_optim_wrapper(network, deepcopy(cfg.optim_wrapper))
        for rate in sorted({group["lr"] for group in optimisation.param_groups}):
            if not 0 <= rate < float("inf"):
                raise ValueError(f"a group of parameters would learn at the rate {rate}")
    with _told("schedule"):
        for entry in cfg.param_scheduler:
            PARAM_SCHEDULERS.build(dict(entry), default_args=dict(optimizer=optimisation))
    with _told("custom_hooks"):
        for entry in cfg.custom_hooks:
            HOOKS.build({name: value for name, value in entry.items() if name != "priority"})
    network = getattr(network, "student", network)
    if isinstance(network.backbone, InternImage) and network.backbone.init_cfg:
        check_weights(network.backbone, network.backbone.init_cfg["checkpoint"])
    _check_windows(recipes.network(cfg).get("test_cfg") or {})
    _check_forward(cfg, network)


def _check_windows(test: Mapping) -> None:
    """Raise InputError for a setting that validation or inference would stumble over."""
    if test.get("mode", "whole") not in ("whole", "slide"):
        raise InputError(f"model.test_cfg.mode: {test['mode']!r} (expected: whole or slide)")
    if test.get("mode") != "slide":
        return
    for name in ("crop_size", "stride"):
        value = test.get(name)
        if (
            not isinstance(value, list | tuple)
            or len(value) != 2
            or not all(isinstance(n, int) and n > 0 for n in value)
        ):
            raise InputError(f"model.test_cfg.{name}: {value!r} (expected: height and width in pixels)")
    size, stride = test["crop_size"], test["stride"]
    if any(step > side for side, step in zip(size, stride, strict=True)):
        raise InputError(f"model.test_cfg.stride: {stride} (expected: {size} at most, or windows leave gaps)")


def _check_types(entry: Any, path: str) -> None:
    """Raise InputError for a ``type`` in nested entries that no registry has; those of other packages are left out."""
    if isinstance(entry, Mapping):
        kind = entry.get("type")
        if isinstance(kind, str) and "." not in kind and all(registry.get(kind) is None for registry in _registries()):
            names = {name.lower(): name for registry in _registries() for name in registry.module_dict}
            close = "".join(f"; did you mean {names[near]}?" for near in get_close_matches(kind.lower(), names, 1))
            raise InputError(f"{path}.type: {kind!r} (expected: the name of a class{close})")
    parts = entry.items() if isinstance(entry, Mapping) else enumerate(entry) if isinstance(entry, list | tuple) else ()
    for name, part in parts:
        _check_types(part, f"{path}.{name}")


def _registries() -> list[Registry]:
    """Return mmseg's registries before mmengine's, in which torch's classes are."""
    import mmengine.registry
    import mmseg.registry

    modules = (mmseg.registry, mmengine.registry)
    return [value for module in modules for value in vars(module).values() if isinstance(value, Registry)]


@torch.no_grad()
def _check_forward(cfg: Config, network: Any) -> None:
    """Pass a batch of crops without values through the network, and labels through its losses."""
    crops, (height, width) = cfg.batch_size, cfg.crop_size
    if cfg.get("launcher") and any(isinstance(module, nn.SyncBatchNorm) for module in network.modules()):
        crops *= 2  # it sees the crops of all processes, which are two at least
    network.train()
    with _told("model"):
        maps = network.extract_feat(torch.empty(crops, 3, height, width, device="meta"))
    classes = DATA[cfg.data_kind].classes
    for name in ("decode_head", "auxiliary_head"):
        heads, entries = getattr(network, name, None), recipes.network(cfg).get(name)
        pairs: Iterable = zip(heads, entries, strict=True) if isinstance(heads, nn.ModuleList) else [(heads, entries)]
        for head, entry in pairs if heads else ():
            if head.num_classes != classes:
                found = f"model.{name}.num_classes: {head.num_classes}"
                raise InputError(f"{found} (expected: {classes}, the classes of {cfg.data_kind})")
            with _told(f"model.{name}"):
                _check_head(head, entry, maps)


def _check_head(head: Any, entry: Mapping, maps: Sequence[Tensor]) -> None:
    from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
    from mmseg.structures import SegDataSample

    given, index = entry.get("in_channels"), entry.get("in_index", range(len(maps)))
    found = [maps[i].shape[1] for i in index] if isinstance(index, list | tuple | range) else maps[index].shape[1]
    if given is not None and found != (list(given) if isinstance(given, list | tuple) else given):
        raise ValueError(f"in_channels: {given} (expected: {found}, the backbone's)")
    if hasattr(head, "num_queries"):  # it reads sizes from tensors, which need values; it has no batch norm
        return
    if not isinstance(head, BaseCascadeDecodeHead):
        try:
            head(maps)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            found = "batch_size: 1 (expected: 2 or more; a batch norm of the network would see one value per channel)"
            raise InputError(found) from None
    labels = torch.arange(64).view(1, 8, 8) % head.num_classes
    samples = [SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=(8, 8)))] * 2
    head.loss_by_feat(torch.zeros(2, head.out_channels, 8, 8), samples)


def check_data(cfg: Config) -> None:
    """Read one batch of the training's data set and one image of the validation's.

    Raises:
        InputError: files that are missing or faulty, or a normalisation that does not give finite pixels.
    """
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.default_scope)
    from mmseg.registry import DATASETS, MODELS

    with _told("augmented set", "Run 01_augment again."):
        train, validation = (
            DATASETS.build(deepcopy(loader.dataset)) for loader in (cfg.train_dataloader, cfg.val_dataloader)
        )
        batch = pseudo_collate([train[i] for i in range(min(2, len(train)))])
        validation[0]
    with _told("model.data_preprocessor"):
        inputs = MODELS.build(deepcopy(recipes.network(cfg).data_preprocessor))(batch, training=True)["inputs"]
        if not inputs.isfinite().all():
            raise ValueError("normalised pixels are not finite (expected: a std above 0)")
