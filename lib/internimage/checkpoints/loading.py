"""Weights from a file into a network: all of them in the right shape, or one sentence that says what is wrong.

``load_weights`` takes what the public release has, in any of its forms, and what a training here leaves. Nothing is
left out silently: the report names it, and what would start untrained is refused unless it was asked for.
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
    """What :func:`load_weights` did; as text, a few lines to be read."""

    path: Path
    loaded: int
    """How many parameters and buffers now hold the file's values."""
    left_out: dict[str, str]
    """Names in the file that the network did not get, with the reason."""
    untouched: dict[str, str]
    """Names of the network that kept their values, with the reason."""
    key: str = ""
    """Where in the file the weights stood; empty: at its top."""
    renamed: int = 0
    """How many names were brought from older frameworks' to today's."""
    rows: dict[str, str | None] = field(default_factory=dict)
    """The classifier's classes to those of the file whose rows they took; ``None``: a row that starts anew."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names in the file that the network did not get."""
        return tuple(self.left_out)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the network that kept their values."""
        return tuple(self.untouched)

    def __str__(self) -> str:
        where = f" under {self.key!r}" if self.key else ""
        lines = [f"{self.path}{where}: {self.loaded} weights loaded"]
        if self.renamed:
            lines[0] += f", {self.renamed} of them by their names of today"
        for title, names in (("left out", self.left_out), ("not in the file", self.untouched)):
            for reason in dict.fromkeys(names.values()):
                these = [name for name, why in names.items() if why == reason]
                lines.append(f"  {title}: {len(these)} ({reason}), {these[0]}{' …' if len(these) > 1 else ''}")
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
    """Load a checkpoint into ``module``; nothing is changed unless everything fits.

    A file holds names and tensors, at its top or under ``state_dict``, ``model`` or ``module``; the prefix ``module.``
    is ignored, Mask2Former's names of mmdet 2 become those of mmdet 3. Into a backbone goes the ``backbone.`` part of a
    segmentation checkpoint, or a classification checkpoint without its classifier.

    Args:
        module: a backbone, a classifier, or a segmentor with a ``backbone``.
        source: file written by ``torch.save``, or what else :func:`lib.internimage.checkpoints.releases.fetch` takes.
        allow_backbone: a segmentor may be given the weights of its backbone alone and keep its heads.
        classes: the file's classes are others than the network's; its classifiers' rows carry over by name, and the
            rest keep the network's values. ``"cityscapes"``, ``"ade20k"``, ``"mapillary"``, ``"competition"``, the
            names themselves, or none (``[]``), which starts the classifiers anew.
        ema: the running average of the weights, where a file holds it beside them. (What mmengine trained with an
            EMA is the average already.)
        partial: load what fits, and leave the rest of the network as it is.

    Raises:
        InputError: the file cannot be read, holds no weights, or holds those of another network.
    """
    target, found, report = _plan(module, source, allow_backbone, classes, ema, partial)
    target.load_state_dict(found, strict=not partial)
    return report


def check(module: nn.Module, source: str | Path, **options) -> LoadReport:
    """What :func:`load_weights` would do, and raise; ``module`` may be on the meta device and is not changed."""
    options = dict(allow_backbone=False, classes=None, ema=False, partial=False) | options
    return _plan(module, source, **options)[2]


def start(load_from: str | Path | Mapping) -> tuple[str, dict]:
    """A ``load_from`` as users write it: the source, and the options of :func:`load_weights`.

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


def _plan(module: nn.Module, source, allow_backbone, classes, ema, partial) -> tuple[nn.Module, dict, LoadReport]:
    """The module to load into, the weights for it, and the report; raises unless they fit."""
    path = fetch(source)
    wanted = module.state_dict()
    raw, left_out, key = formats.weights(reading.read(path), path, ema)
    found = {formats.current_name(name): tensor for name, tensor in raw.items()}
    renamed = len(found.keys() - raw.keys())
    untouched: dict[str, str] = {}
    if formats.has("backbone.", found) and not formats.has("backbone.", wanted):
        heads = [name for name in found if not name.startswith("backbone.")]
        left_out |= dict.fromkeys(heads, "of a head, and the network is a backbone alone")
        found = formats.strip("backbone.", found)
    elif allow_backbone and formats.has("backbone.", wanted) and not formats.has("backbone.", found):
        heads = [name for name in wanted if not name.startswith("backbone.")]
        untouched = dict.fromkeys(heads, "a backbone's weights do not have it")
        module, wanted = module.get_submodule("backbone"), formats.strip("backbone.", wanted)
    unused = _unused(wanted, found)
    left_out |= unused
    found = {name: tensor for name, tensor in found.items() if name not in unused}
    rows: dict[str, str | None] = {}
    if classes is not None:
        names = class_rows.names_of(classes)
        for name in [n for n in wanted if n in found and class_rows.is_classifier(n)]:
            if wanted[name].shape[1:] == found[name].shape[1:]:
                found[name], rows = class_rows.merge(name, wanted[name], found[name], names)
    factors = formats.missing_factors(wanted, found)
    untouched |= dict.fromkeys(factors, "factors, set to 1: the file's network is without them")
    found |= factors
    if partial:
        found = _fitting(path, wanted, found, left_out, untouched)
    else:
        _compare(path, wanted, found)
    return module, found, LoadReport(path, len(found) - len(factors), left_out, untouched, key, renamed, rows)


def _unused(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of the file that its own network does not use, or that are of a classifier the network does without."""
    unused = {}
    for name in found:
        part = next((head for head in formats.HEADS if name.startswith(head)), None)
        if part and not formats.has(part, wanted):
            unused[name] = "of the classification head"
        elif (
            name.startswith("decode_head.conv_seg.") and "decode_head.cls_embed.weight" in found and name not in wanted
        ):
            unused[name] = "never used by Mask2Former"
    return unused


def _fitting(path: Path, wanted, found, left_out: dict[str, str], untouched: dict[str, str]) -> dict[str, Tensor]:
    """The weights that have a place in the network; notes the others in ``left_out`` and ``untouched``."""
    fitting = {name: tensor for name, tensor in found.items() if name in wanted and wanted[name].shape == tensor.shape}
    if not fitting:
        _compare(path, wanted, found)
    for name in found.keys() - fitting.keys():
        left_out[name] = "another shape than the network's" if name in wanted else "no such weight in the network"
    for name in wanted.keys() - fitting.keys():
        untouched[name] = "there with another shape" if name in found else "not there"
    return fitting


def _compare(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise unless both have the same names and shapes."""
    resized = [name for name in wanted if name in found and wanted[name].shape != found[name].shape]
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if not (resized or missing or extra):
        return
    if not (missing or extra) and all(map(class_rows.is_classifier, resized)):
        there, here = len(found[resized[0]]), len(wanted[resized[0]])
        raise InputError(
            f"{path}: fits but for its number of classes ({resized[0]} has {there} rows there and {here} in the network); "
            f"to train on and take over rows by name, say whose they are: load_from {{checkpoint: {path.name}, classes: "
            "cityscapes} (or ade20k, mapillary, a list of names, or [] to start the classifier anew)."
        )
    if resized:
        name = resized[0]
        example = f"{name} is {tuple(found[name].shape)} there and {tuple(wanted[name].shape)} in the network"
    elif missing:
        example = f"{missing[0]} {tuple(wanted[missing[0]].shape)} of the network is not there"
    else:
        example = f"{extra[0]} {tuple(found[extra[0]].shape)} has no place in the network"
    wrong = [*resized, *missing, *extra]
    if formats.has("backbone.", wanted) and all(f"backbone.{name}" in wanted for name in found):
        kind = "holds a backbone alone"
    elif len(missing) == len(wanted):
        kind = "is a checkpoint of another kind of network"
    elif formats.has("backbone.", wanted) and not formats.has("backbone.", wrong):
        kind = "fits the network's backbone, but not its heads"
    else:
        kind = "looks like a checkpoint of another variant"
    raise InputError(
        f"{path}: {kind} ({example}; of the network's {len(wanted)} weights {len(resized)} have another shape and "
        f"{len(missing)} are missing, and {len(extra)} of the file's are left over); give the one of this network."
    )
