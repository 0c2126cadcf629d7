"""Folders of results that belong to the parameters and inputs that made them."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lib.errors import InputError
from lib.files import read_json, read_yaml, write_json, write_yaml

INPUTS = "inputs.json"
"""File of a claimed folder with the digests of what its results are made from, by name."""
_PARAMETERS = "parameters.yaml"
_SHOWN = 3  # changed inputs that a message names


def claim(
    folder: str | Path,
    parameters: Mapping,
    inputs: Mapping[str, str] | None = None,
    overwrite: bool = False,
    defaults: Mapping | None = None,
    restart: bool = False,
    attached: Iterable[Path] = (),
    forget: Callable[[], object] = lambda: None,
) -> Path:
    """Create a folder of results, or keep one that the same parameters and inputs made.

    ``parameters.yaml`` and ``inputs.json`` in the folder record both. A former folder is replaced as a whole, by
    renames: after a kill at any moment, the next call finds the former one or the new one.

    Args:
        folder: created when missing.
        parameters: plain values that determine the folder's files.
        inputs: digests of what the files are made from, by name.
        overwrite: replace results of other parameters or inputs, instead of refusing.
        defaults: values of parameters that the folder's version of the program did not have yet.
        restart: replace results of the same parameters and inputs too.
        attached: other folders of the same results, deleted when they are replaced.
        forget: called before results are replaced.

    Raises:
        InputError: the folder holds results of other parameters or inputs (names those that differ), or files of
            another origin.
    """
    folder, inputs = Path(folder), dict(inputs or {})
    note = folder / _PARAMETERS
    _finish_replacement(folder, attached)
    if not note.exists():
        if folder.exists() and any(p.name != INPUTS and ".tmp" not in p.suffixes for p in folder.iterdir()):
            raise InputError(f"{folder} holds files that no run of this stage made. Choose another output folder.")
        return _begin(folder, parameters, inputs)
    if not restart:
        found, flags = _difference(folder, parameters, inputs, defaults)
        if not found:
            if overwrite:
                print(f"{folder}: options and inputs are the same, so it is kept (restart=True, --restart: begun anew)")
            return folder
        if not overwrite:
            remedy = f"Choose another output folder, or pass overwrite=True ({flags}) to replace them."
            raise InputError(f"{folder} holds results made {found}. {remedy}")
    forget()
    _begin(_beside(folder, "new"), parameters, inputs)
    folder.rename(_beside(folder, "old"))
    _beside(folder, "new").rename(folder)
    _finish_replacement(folder, attached)
    return folder


def changed(before: Mapping, now: Mapping, defaults: Mapping | None = None) -> list[str]:
    """Return the names whose values differ; ``defaults``: see :func:`claim`."""
    latter = yaml.safe_load(yaml.safe_dump(dict(now)))
    former = {name: value for name, value in (defaults or {}).items() if name in latter} | dict(before)
    return [name for name in former | latter if placeless(former.get(name)) != placeless(latter.get(name))]


def placeless(value: Any) -> Any:
    """Return a plain value whose absolute paths are file names: a moved file is known by its content."""
    if isinstance(value, Mapping):
        return {key: placeless(one) for key, one in value.items()}
    if isinstance(value, list):
        return [placeless(one) for one in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def placeless_names(digests: Mapping[str, str]) -> dict[str, str]:
    """Return digests by relative paths so that files elsewhere (``../``) have their file name only."""
    named: dict[str, str] = {}
    for path, value in digests.items():
        name = f"…/{Path(path).name}" if path.startswith("../") else path
        while name in named:
            name += "'"
        named[name] = value
    return named


def changed_inputs(
    folder: Path, parameters: Mapping, inputs: Mapping[str, str], defaults: Mapping, chosen: Iterable[str] = ()
) -> str:
    """Return a sentence that names the changed inputs of a folder's results; empty for none or other parameters.

    Parameters that were ``chosen`` from the inputs count as inputs.
    """
    if not (folder / _PARAMETERS).exists():
        return ""
    differing = changed(read_yaml(folder / _PARAMETERS), parameters, defaults)
    if set(differing) - set(chosen):
        return ""
    names = [*differing, *changed(placeless_names(read_json(folder / INPUTS)), inputs)]
    return f"{folder} holds results made from other inputs ({listed(names)})" if names else ""


def _begin(folder: Path, parameters: Mapping, inputs: Mapping[str, str]) -> Path:
    """Create a folder of results; with ``parameters.yaml``, which comes last, it is claimed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / INPUTS, inputs)
    write_yaml(folder / _PARAMETERS, parameters)
    return folder


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(f".{folder.name}.{word}")


def _finish_replacement(folder: Path, attached: Iterable[Path]) -> None:
    """Delete former results, of which nothing is used from here on; go back to them if the new folder has no name."""
    old, new = _beside(folder, "old"), _beside(folder, "new")
    if old.exists() and not folder.exists():
        old.rename(folder)
    elif old.exists():
        for former in (*attached, old):  # the old folder last: it says that there is something to delete
            with suppress(FileNotFoundError):
                former.unlink() if former.is_symlink() else shutil.rmtree(former)
    if new.exists():
        shutil.rmtree(new)


def _difference(folder: Path, parameters: Mapping, inputs: Mapping, defaults: Mapping | None) -> tuple[str, str]:
    """Return words on the parameters, or else the inputs, that differ, and the flags that replace the results."""
    before = read_yaml(folder / _PARAMETERS)
    if names := changed(before, parameters, defaults):
        found = "; ".join(f"{name}: {before.get(name)!r} there, {parameters.get(name)!r} now" for name in names)
        return f"with other parameters ({found})", "--overwrite"
    names = changed(placeless_names(read_json(folder / INPUTS)), inputs)
    return f"from other inputs ({listed(names)})" if names else "", "--resume or --overwrite"


def listed(names: list[str]) -> str:
    """Return "changed: ", and the first few names."""
    return "changed: " + ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
