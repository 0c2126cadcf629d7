"""Entries of a recipe: the allowed values of its sizes, and changes by dotted names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Len, Lt

from lib.errors import InputError
from lib.options import Options, option
from lib.training.self_training import Settings

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

Count = Annotated[int, Ge(1)]
Size = Annotated[list[Count], Len(2, 2)]

_DELETE = "_delete_"  # mmengine's mark of a mapping that replaces another one whole
_UNTYPED: dict[str, Collection[str]] = {
    "test_cfg": ("mode", "crop_size", "stride"),
    "clip_grad": ("type", "max_norm", "norm_type", "clip_value", "error_if_nonfinite", "foreach"),
    "self_training": Settings.names(),
}
"""Entries of mappings without a class whose arguments could be read."""


@dataclass(frozen=True, kw_only=True)
class Sizes(Options):
    """Entries of a recipe beside its network and optimiser; the last four fit a training into a card's memory."""

    scale: Size = option(None, "width and height in pixels into which images are fitted")
    ratio_range: Annotated[list[Annotated[float, Gt(0)]], Len(2, 2)] = option(
        None, "least and largest factor of a crop's random scale"
    )
    crop_size: Size = option(None, "height and width of a crop in pixels")
    batch_size: Count = option(None, "crops per process")
    num_workers: Annotated[int, Ge(0)] = option(None, "data loader processes per training process")
    max_iters: Count = option(None, "length of the training in iterations")
    warmup_iters: Annotated[int, Ge(0)] = option(None, "iterations in which the learning rate rises")
    val_interval: Count = option(None, "iterations from one validation and checkpoint to the next")
    poly_power: Annotated[float, Gt(0)] = option(1.0, "exponent of the learning rate's descent")
    keep_checkpoints: Count = option(2, "checkpoints that are kept, beside the best")
    data_kind: Literal["competition", "cityscapes", "ade20k"] = option("competition", "kind of data set")
    accumulate: Count = option(1, "iterations per step of the optimiser; `max_iters` counts iterations")
    clip_grad: Annotated[float, Gt(0)] | None = option(
        None, "largest norm of the gradient", expected="a positive number, or null"
    )
    ema: Annotated[float, Gt(0), Lt(1)] | None = option(
        None,
        "share of each step's weights in their exponential moving average, such as 2e-4, which validation, checkpoints "
        "and inference then use",
        expected="a number between 0 and 1, or null",
    )
    shard: bool = option(False, "FSDP: spread weights, gradients and the optimiser's state over the processes")


def check_recipe(cfg: Config) -> None:
    """Raise InputError unless a recipe has all entries that it needs, with allowed values."""
    for name in ("model", "model.data_preprocessor", "model.backbone", "optim_wrapper"):
        entry: Any = cfg.to_dict()
        for key in name.split("."):
            entry = entry.get(key)
        if not isinstance(entry, Mapping):
            raise InputError(f"{name}: {entry!r} (expected: a mapping)")
    Sizes.collect(cfg)
    low, high = cfg.ratio_range
    if low > high:
        raise InputError(f"ratio_range: {[low, high]} (expected: the smaller factor first)")


def override(cfg: Config, options: Mapping[str, Any]) -> None:
    """Change entries of a recipe by their dotted names, and check the result.

    Raises:
        InputError: a name that the recipe, or the class that it would go to, does not have (offers the nearest), a
            value of another kind than the recipe's, or one that is not allowed.
    """
    for name, default in Sizes.defaults().items():
        if default is not None or name in ("clip_grad", "ema"):
            cfg.setdefault(name, default)
    given = deepcopy(dict(options))  # merging takes marks out of nested mappings
    values, recipe = dict(_flat(given)), cfg.to_dict()
    for name, value in values.items():
        if longer := [other for other in values if other.startswith(f"{name}.")]:
            raise InputError(f"options: {name} and {longer[0]} (expected: one of them)")
        _check_value(name, value)
        _check_name(recipe, name, values)
    try:
        cfg.merge_from_dict(given)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"options: {', '.join(values)}: {error} (expected: entries of mappings)") from error
    check_recipe(cfg)


def _flat(given: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of each entry of nested mappings."""
    for name, value in given.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        for one in value:
            _check_value(name, one)
    elif isinstance(value, Mapping):
        for one in value.values():
            _check_value(name, one)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"options: {name}: {value} (expected: a finite number)")
    elif not isinstance(value, str | int | float | None):
        raise InputError(f"options: {name}: a {type(value).__name__} (expected: numbers, text, lists or mappings)")


def _check_name(node: Any, name: str, values: Mapping[str, Any]) -> None:
    """Raise InputError unless each part of a dotted name is an entry of the mapping or list before it."""
    path = ""
    for key in name.split("."):
        known = _known(node, path, values)
        if known is not None and key not in known and key != _DELETE:
            listed = f"there are: {', '.join(sorted(known))}" if known else "it has no entries to change"
            close = "".join(f"did you mean {near}? " for near in get_close_matches(key, known, 1))
            raise InputError(f"options: {name!r} is no entry of a recipe ({close}{path or 'in a recipe'}: {listed})")
        path, node = f"{path}.{key}" if path else key, known.get(key) if known else None
    _check_kind(name, node, values[name])


def _known(node: Any, path: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return entries and their values in the recipe, or defaults; ``None`` where only building it can tell."""
    if not path:
        return {**dict.fromkeys(("self_training", *Sizes.names())), **node}
    if isinstance(node, list | tuple):
        return {str(i): value for i, value in enumerate(node) if isinstance(value, Mapping)}
    if not isinstance(node, Mapping | None):
        return {}
    names = _UNTYPED.get(path.rpartition(".")[2])
    known: dict[str, Any] = {**dict.fromkeys(names or ()), **(node or {})}
    if kind := values.get(f"{path}.type", known.get("type")):
        arguments = _arguments(kind)
        return None if arguments is None else {"type": None, **arguments, **known}
    return known if names else None


def _arguments(kind: Any) -> dict[str, Any] | None:
    """Return the arguments of a registered class with their defaults; ``None`` if it takes any."""
    from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS, init_default_scope
    from mmseg.registry import MODELS

    import lib.internimage  # noqa: F401  registers its classes

    init_default_scope("mmseg")
    found = (registry.get(kind) for registry in (MODELS, OPTIMIZERS, OPTIM_WRAPPERS) if isinstance(kind, str))
    built = next(filter(None, found), None)
    if not inspect.isclass(built):
        return None
    # mmengine and mmcv take these out before they call the class.
    arguments: dict[str, Any] = dict.fromkeys(("constructor", "paramwise_cfg", "requires_grad"))
    bases: tuple[Any, ...] = built.__mro__
    for base in bases:
        parameters = inspect.signature(base.__init__).parameters
        for name, parameter in parameters.items():
            if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                arguments.setdefault(name, None if parameter.default is parameter.empty else parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return arguments
    return arguments


def _check_kind(name: str, before: Any, value: Any) -> None:
    """Raise InputError where a value is of another kind than the recipe's."""
    kinds: tuple[tuple[Any, Any, str], ...] = (
        (bool, bool, "true or false"),
        (int | float, int | float | list | None, "a number; YAML reads 1e-4 as text, so write 1.0e-4"),
        (list | tuple, list | tuple | int | float | None, "a list"),
        (Mapping, Mapping | None, "a mapping"),
        (str, str | Mapping | None, "text"),
    )
    for kind, allowed, expected in kinds:
        if isinstance(before, kind):
            if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
                raise InputError(f"options: {name}: {value!r} (expected: {expected}, such as {before!r})")
            return
