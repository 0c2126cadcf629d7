"""Load the weights of a checkpoint into a network: all of them in the right shape, or an error that says why not.

Accepts the public release in all its formats and the checkpoints of trainings here. Nothing is left out silently: a
report names it. Weights that would start untrained are refused unless an option allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from lib.errors import InputError
from lib.internimage.checkpoints import class_rows, formats, reading
from lib.internimage.checkpoints.releases import fetch

_OPTIONS = {"checkpoint", "classes", "ema", "partial"}


@dataclass(frozen=True)
class LoadReport:
    """Result of :func:`load_weights`; as text, a few lines for people."""

    path: Path
    loaded: int
    """Number of parameters and buffers that have the file's values."""
    left_out: dict[str, str]
    """Names in the file that were not loaded, with the reason."""
    untouched: dict[str, str]
    """Names of the network without a value in the file, with the reason."""
    key: str = ""
    """Key of the weights in the file; empty: they are at its top."""
    renamed: int = 0
    """Number of names converted from older frameworks."""
    rows: dict[str, str | None] = field(default_factory=dict)
    """The classifier's classes to the file's classes whose rows they got; ``None``: a row that starts anew."""

    def __str__(self) -> str:
        key = f" under {self.key!r}" if self.key else ""
        renamed = f", {self.renamed} of them renamed from older frameworks" if self.renamed else ""
        lines = [f"{self.path}{key}: {self.loaded} weights loaded{renamed}"]
        for title, reasons in (("left out", self.left_out), ("not in the file", self.untouched)):
            for reason in dict.fromkeys(reasons.values()):
                names = [name for name, why in reasons.items() if why == reason]
                lines.append(f"  {title}: {len(names)} ({reason}), {names[0]}{' …' if len(names) > 1 else ''}")
        if self.rows:
            taken = ", ".join(f"{ours} from {theirs}" for ours, theirs in self.rows.items() if theirs is not None)
            anew = ", ".join(ours for ours, theirs in self.rows.items() if theirs is None)
            lines.append(f"  classifier rows taken over: {taken or 'none'}; starting anew: {anew or 'none'}")
        return "\n".join(lines)


def load_weights(
    module: nn.Module,
    source: str | Path,
    *,
    allow_backbone: bool = False,
    classes: str | Sequence[str] | None = None,
    ema: bool = False,
    partial: bool = False,
) -> LoadReport:
    """Load a checkpoint into ``module``; change nothing unless everything fits.

    A backbone gets the ``backbone.`` part of a segmentation checkpoint, or a classification checkpoint without its
    classifier. :mod:`lib.internimage.checkpoints.formats` lists the accepted formats.

    Args:
        module: a backbone, a classifier, or a segmentor with a ``backbone``.
        source: file, URL or name, see :func:`lib.internimage.checkpoints.releases.fetch`.
        allow_backbone: accept the weights of a backbone alone for a segmentor, whose heads keep their values.
        classes: classes of the file's classifiers, where they differ from the network's; rows carry over by class
            name, the others keep the network's values. ``"cityscapes"``, ``"ade20k"``, ``"mapillary"``,
            ``"competition"``, a list of names, or ``[]`` to start the classifiers anew.
        ema: load the running average of the weights, where a file holds it beside them. (A checkpoint of mmengine
            with an EMA holds the average as its weights.)
        partial: load what fits and leave the rest of the network as it is.

    Raises:
        InputError: the file cannot be read, holds no weights, or holds those of another network.
    """
    target, tensors, report = _match(module, source, allow_backbone, classes, ema, partial)
    target.load_state_dict(tensors, strict=not partial)
    return report


def check_weights(module: nn.Module, source: str | Path, **options) -> LoadReport:
    """Return what :func:`load_weights` would return, or raise its error; ``module`` may be on the meta device."""
    options = dict(allow_backbone=False, classes=None, ema=False, partial=False) | options
    return _match(module, source, **options)[2]


def parse_load_from(load_from: str | Path | Mapping) -> tuple[str, dict]:
    """Return the source and the options of :func:`load_weights` in a ``load_from`` as users write it.

    Args:
        load_from: a source, or a mapping of ``checkpoint`` (the source) and ``classes``, ``ema``, ``partial``.

    Raises:
        InputError: unknown or missing entries.
    """
    if not isinstance(load_from, Mapping):
        return str(load_from), {}
    options = dict(load_from)
    if "checkpoint" not in options or (unknown := set(options) - _OPTIONS):
        fault = "no checkpoint" if "checkpoint" not in options else f"{sorted(unknown)[0]!r}"
        raise InputError(
            f"load_from: {fault} (expected a file, a URL, a name, or a mapping of {', '.join(sorted(_OPTIONS))})"
        )
    return str(options.pop("checkpoint")), options


def _match(module: nn.Module, source, allow_backbone, classes, ema, partial) -> tuple[nn.Module, dict, LoadReport]:
    """Return the module to load into, its weights, and the report; raise unless they fit."""
    path = fetch(source)
    weights = formats.weights(reading.read(path), path, ema)
    expected, found = module.state_dict(), weights.tensors
    left_out = dict(weights.left_out)
    untouched: dict[str, str] = {}
    if formats.has("backbone.", found) and not formats.has("backbone.", expected):
        heads = [name for name in found if not name.startswith("backbone.")]
        left_out |= dict.fromkeys(heads, "of a head, and the network is a backbone alone")
        found = formats.strip("backbone.", found)
    elif allow_backbone and formats.has("backbone.", expected) and not formats.has("backbone.", found):
        heads = [name for name in expected if not name.startswith("backbone.")]
        untouched |= dict.fromkeys(heads, "the file holds a backbone alone")
        module, expected = module.get_submodule("backbone"), formats.strip("backbone.", expected)
    unused = formats.unused(expected, found)
    left_out |= unused
    found = {name: tensor for name, tensor in found.items() if name not in unused}
    rows = {} if classes is None else _merge_classifiers(expected, found, class_rows.class_names(classes))
    layer_scale = formats.missing_layer_scale(expected, found)
    untouched |= dict.fromkeys(layer_scale, "layer scale, set to 1: the file's network has none")
    found |= layer_scale
    if partial:
        found = _fitting(path, expected, found, left_out, untouched)
    else:
        _require_fit(path, expected, found)
    loaded = len(found) - len(layer_scale)
    return module, found, LoadReport(path, loaded, left_out, untouched, weights.key, weights.renamed, rows)


def _merge_classifiers(expected: Mapping[str, Tensor], found: dict[str, Tensor], file_classes) -> dict:
    """Replace the classifiers in ``found`` by the network's with the file's rows; return the rows' classes."""
    rows: dict[str, str | None] = {}
    for name, tensor in expected.items():
        if class_rows.is_classifier(name) and name in found and tensor.shape[1:] == found[name].shape[1:]:
            found[name], rows = class_rows.merge(name, tensor, found[name], file_classes)
    return rows


def _fitting(path: Path, expected, found, left_out: dict[str, str], untouched: dict[str, str]) -> dict[str, Tensor]:
    """Return the weights that have a place in the network; add the others to ``left_out`` and ``untouched``."""
    fitting = {name: value for name, value in found.items() if name in expected and expected[name].shape == value.shape}
    if not fitting:
        _require_fit(path, expected, found)
    for name in found.keys() - fitting.keys():
        left_out[name] = "another shape than the network's" if name in expected else "no such weight in the network"
    for name in expected.keys() - fitting.keys():
        untouched[name] = "of another shape in the file" if name in found else "missing in the file"
    return fitting


def _require_fit(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise unless network and file have the same names and shapes."""
    resized = [name for name in expected if name in found and expected[name].shape != found[name].shape]
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if not (resized or missing or extra):
        return
    if not (missing or extra) and all(map(class_rows.is_classifier, resized)):
        counts = f"{len(found[resized[0]])} rows in the file and {len(expected[resized[0]])} in the network"
        raise InputError(
            f"{path}: fits but for its number of classes ({resized[0]} has {counts}); to train on and take over rows "
            f"by class name, name the file's classes: load_from {{checkpoint: {path.name}, classes: cityscapes}} (or "
            "ade20k, mapillary, a list of names, or [] to start the classifier anew)."
        )
    if resized:
        shapes = f"{tuple(found[resized[0]].shape)} in the file and {tuple(expected[resized[0]].shape)} in the network"
        example = f"{resized[0]} is {shapes}"
    elif missing:
        example = f"{missing[0]} {tuple(expected[missing[0]].shape)} of the network is not in the file"
    else:
        example = f"{extra[0]} {tuple(found[extra[0]].shape)} has no place in the network"
    if formats.has("backbone.", expected) and all(f"backbone.{name}" in expected for name in found):
        kind = "holds a backbone alone"
    elif len(missing) == len(expected):
        kind = "is a checkpoint of another kind of network"
    elif formats.has("backbone.", expected) and not formats.has("backbone.", [*resized, *missing, *extra]):
        kind = "fits the network's backbone, but not its heads"
    else:
        kind = "looks like a checkpoint of another variant"
    raise InputError(
        f"{path}: {kind} ({example}; of the network's {len(expected)} weights {len(resized)} have another shape and "
        f"{len(missing)} are missing, and {len(extra)} of the file's are left over); give a checkpoint of this network."
    )
