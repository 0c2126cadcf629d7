"""Load a checkpoint into a network: all of its weights in the right shape, or an error that says why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from lib.errors import InputError
from lib.internimage.checkpoints import class_rows, formats
from lib.internimage.checkpoints.finite import check_finite
from lib.internimage.checkpoints.releases import fetch

_OPTIONS = {"checkpoint", "classes", "ema", "partial"}


@dataclass(frozen=True)
class LoadReport:
    """Result of :func:`load_weights`; as text, a few lines for people."""

    path: Path
    loaded: int  # number of parameters and buffers
    left_out: dict[str, str]  # names in the file, with the reason
    untouched: dict[str, str]  # names of the network without a value in the file, with the reason
    key: str  # of the weights in the file; empty: they are at its top
    renamed: int  # number of names converted from older frameworks
    rows: dict[str, str | None]  # the classifier's classes to the file's; None: a row that starts anew

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

    Args:
        module: a classifier, a segmentor with a ``backbone``, or a backbone, which gets that part of any checkpoint.
        source: see :func:`lib.internimage.checkpoints.releases.fetch`.
        allow_backbone: accept the weights of a backbone alone for a segmentor, whose heads keep their values.
        classes: classes of the file's classifiers, where they differ from the network's; rows carry over by class
            name, the others keep the network's values. A data set known to
            :func:`lib.internimage.checkpoints.class_rows.class_names`, a list of names, or ``[]`` for none.
        ema: load the running average of the weights, where a file holds it beside them; mmengine's files hold it as
            their weights.
        partial: load what fits and leave the rest of the network as it is.

    Raises:
        InputError: the file cannot be read, or holds no weights, those of another network, or some that are not finite.
    """
    target, tensors, report = _match(module, source, allow_backbone, classes, ema, partial)
    target.load_state_dict(tensors, strict=not partial)
    return report


def check_weights(module: nn.Module, source: str | Path, **options) -> LoadReport:
    """Return what :func:`load_weights` would return, or raise its error; ``module`` may be on the meta device."""
    return _match(module, source, **options)[2]


def parse_load_from(load_from: str | Path | Mapping) -> tuple[str, dict]:
    """Return source and options of :func:`load_weights`, given the source or a mapping of ``checkpoint`` and options.

    Raises:
        InputError: unknown or missing entries.
    """
    if not isinstance(load_from, Mapping):
        return str(load_from), {}
    options = dict(load_from)
    if "checkpoint" not in options or options.keys() - _OPTIONS:
        fault = repr(min(options.keys() - _OPTIONS)) if "checkpoint" in options else "no checkpoint"
        raise InputError(
            f"load_from: {fault} (expected a file, a URL, a name, or a mapping of {', '.join(sorted(_OPTIONS))})"
        )
    return str(options.pop("checkpoint")), options


def _match(
    module: nn.Module, source, allow_backbone=False, classes=None, ema=False, partial=False
) -> tuple[nn.Module, dict[str, Tensor], LoadReport]:
    """Return the module to load into, its weights, and the report; raise unless they fit."""
    path = fetch(source)
    found, left_out, key, renamed = formats.weights(path, ema)
    expected = module.state_dict()
    untouched: dict[str, str] = {}
    if formats.has("backbone.", found) and not formats.has("backbone.", expected):
        heads = [name for name in found if not name.startswith("backbone.")]
        left_out |= dict.fromkeys(heads, "of a head, and the network is a backbone alone")
        found = formats.strip("backbone.", found)
    elif allow_backbone and formats.has("backbone.", expected) and not formats.has("backbone.", found):
        heads = [name for name in expected if not name.startswith("backbone.")]
        untouched |= dict.fromkeys(heads, "the file holds a backbone alone")
        module, expected = module.get_submodule("backbone"), formats.strip("backbone.", expected)
    left_out |= formats.unused(expected, found)
    found = {name: tensor for name, tensor in found.items() if name not in left_out}
    check_finite(path, found)
    rows: dict[str, str | None] = {}
    if classes is not None:
        file_classes = class_rows.class_names(classes)
        for name, tensor in expected.items():
            if class_rows.is_classifier(name) and name in found and tensor.shape[1:] == found[name].shape[1:]:
                found[name], rows = class_rows.merge(name, tensor, found[name], file_classes)
    layer_scale = formats.missing_layer_scale(expected, found)
    untouched |= dict.fromkeys(layer_scale, "layer scale, set to 1: the file's network has none")
    found |= layer_scale

    resized = [name for name in expected if name in found and expected[name].shape != found[name].shape]
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if (resized or missing or extra) and not (partial and len(resized + missing) < len(expected)):
        raise InputError(f"{path}: {_misfit(path, expected, found, resized, missing, extra)}")
    left_out |= dict.fromkeys(resized, "another shape than the network's")
    left_out |= dict.fromkeys(extra, "no such weight in the network")
    untouched |= dict.fromkeys(resized, "of another shape in the file")
    untouched |= dict.fromkeys(missing, "missing in the file")
    fitting = {name: tensor for name, tensor in found.items() if name not in left_out}
    loaded = len(fitting) - len(layer_scale)
    return module, fitting, LoadReport(path, loaded, left_out, untouched, key, renamed, rows)


def _misfit(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], resized, missing, extra) -> str:
    """Return why the file does not fit, and what to do; at least one of the lists of names is not empty."""
    name = (resized or missing or extra)[0]
    ours, theirs = (tuple(tensors[name].shape) if name in tensors else () for tensors in (expected, found))
    if not (missing or extra) and all(map(class_rows.is_classifier, resized)):
        return (
            f"fits but for its number of classes ({name} has {theirs[0]} rows in the file and {ours[0]} in the "
            "network); to train on and take over rows by class name, name the file's classes: load_from "
            f"{{checkpoint: {path.name}, classes: cityscapes}} (or ade20k, mapillary, a list of names, or [] to start "
            "the classifier anew)."
        )
    if resized:
        example = f"{name} is {theirs} in the file and {ours} in the network"
    elif missing:
        example = f"{name} {ours} of the network is not in the file"
    else:
        example = f"{name} {theirs} has no place in the network"
    if formats.has("backbone.", expected) and all(f"backbone.{name}" in expected for name in found):
        kind = "holds a backbone alone"
    elif len(missing) == len(expected):
        kind = "is a checkpoint of another kind of network"
    elif formats.has("backbone.", expected) and not formats.has("backbone.", [*resized, *missing, *extra]):
        kind = "fits the network's backbone, but not its heads"
    else:
        kind = "looks like a checkpoint of another variant"
    return (
        f"{kind} ({example}; of the network's {len(expected)} weights {len(resized)} have another shape and "
        f"{len(missing)} are missing, and {len(extra)} of the file's are left over); give a checkpoint of this network."
    )
