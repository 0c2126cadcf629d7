"""The resolved config of a training as data: a JSON file, read without running code of the file.

mmengine's own config files are Python. Its registries import any module that a ``type`` names, so types are checked
first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import InputError
from lib.files import whole_file
from lib.recipes import quiet

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

_TUPLE = "tuple"  # JSON has no tuples, which mmseg tells from lists: {"tuple": [1, 2]}
_TYPES = ("type", "constructor", "ema_type", "runner_type")  # entries that name a registered class
_RESERVED = ("_scope_", "_delete_", "_base_")  # entries that mmengine acts upon
_OLD = "config.py"  # of versions up to 0.2.0
_REMEDY = "run 02_train again with the parameters of that training, which writes it anew."
_DEPTH = 100  # of nested entries; real configs have about 12


def write_config(cfg: Config, path: str | Path) -> None:
    """Write a config whose entries are plain values.

    Raises:
        InputError: an entry is another value, such as a class or a function.
    """
    text = json.dumps(_encoded(cfg.to_dict(), ""), indent=1)
    with whole_file(path) as temporary:
        temporary.write_text(text)


def check_plain(cfg: Config) -> None:
    """Raise InputError for an entry that :func:`write_config` refuses."""
    _encoded(cfg.to_dict(), "")


def config_of(checkpoint: Path, default: Path) -> Path:
    """Return the path of the config beside a checkpoint, or ``default`` where there is none."""
    beside = checkpoint.with_name(default.name)
    return beside if beside.is_file() or beside.with_name(_OLD).is_file() else default


def check_config(path: Path) -> None:
    """Raise InputError where there is no config file."""
    if path.is_file():
        return
    if path.with_name(_OLD).is_file():
        found = f"no such file, and {_OLD} beside it, of an earlier version, is Python code that is not run"
        raise InputError(f"{path}: {found}; {_REMEDY}")
    raise InputError(f"{path} does not exist (expected with the checkpoint). Run 02_train for this run first.")


def read_config(path: str | Path) -> Config:
    """Read a config and import the modules of ``lib`` that it asks for.

    Raises:
        InputError: no such file, no config, a module outside ``lib``, or a type that is not registered.
    """
    from mmengine import Config
    from mmengine.utils import import_modules_from_strings

    path = Path(path)
    check_config(path)
    try:
        values = json.loads(path.read_bytes(), object_hook=_decoded)
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path}: no JSON file ({error}); {_REMEDY}") from None
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise InputError(f"{path}: holds no config (expected an entry model); {_REMEDY}")
    modules = _modules(values, path)
    try:
        import_modules_from_strings(modules)
    except ImportError as error:
        raise InputError(f"{path}: custom_imports: {error}; {_REMEDY}") from None
    _check_types(values, path)
    try:
        return Config(values)
    except KeyError as error:  # mmengine reserves some names
        raise InputError(f"{path}: {error.args[0]}; {_REMEDY}") from None


def _encoded(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InputError(f"config: {place or 'top'}: {name!r} is no text (expected a name of an entry)")
        return {name: _encoded(inner, f"{place}.{name}".lstrip(".")) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        items = [_encoded(inner, f"{place}[{i}]") for i, inner in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(
        f"config: {place}: {value!r} (expected text, numbers, lists or mappings; name a class by its type)"
    )


def _decoded(values: dict) -> dict | tuple:
    return tuple(values[_TUPLE]) if values.keys() == {_TUPLE} and isinstance(values[_TUPLE], list) else values


def _modules(values: dict, path: Path) -> list[str]:
    """Return the modules to import, all of ``lib``."""
    given = values.get("custom_imports", {})
    modules = given.get("imports", []) if isinstance(given, dict) else given
    modules = [modules] if isinstance(modules, str) else modules
    for name in modules if isinstance(modules, list | tuple) else [modules]:
        if not (isinstance(name, str) and name.startswith("lib.")):
            raise InputError(f"{path}: custom_imports: {name!r} (expected modules of lib); {_REMEDY}")
    return list(modules)


def _check_types(values: dict, path: Path) -> None:
    known = registered()
    for place, name, value in _entries(values, "", path):
        if name in _RESERVED:
            raise InputError(f"{path}: {place}: an entry of this name is not allowed; {_REMEDY}")
        if name in _TYPES and not (isinstance(value, str) and value in known):
            raise InputError(f"{path}: {place}: {value!r} (expected a registered name); {_REMEDY}")


def _entries(value: Any, place: str, path: Path, depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """Yield place, name and value of each entry of each mapping."""
    if depth > _DEPTH:
        raise InputError(f"{path}: {place[:80]}: nested too deeply; {_REMEDY}")
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{place}.{name}".lstrip("."), name, inner
            yield from _entries(inner, f"{place}.{name}".lstrip("."), path, depth + 1)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _entries(inner, f"{place}[{i}]", path, depth + 1)


def registered() -> set[str]:
    """Return all names in mmengine's registries and their children, with and without their scope."""
    import mmengine.registry

    import lib.internimage  # noqa: F401  before mmseg, which would miss mmcv's operators

    with quiet():
        import mmseg.visualization  # noqa: F401  which the last line leaves out
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=False)

    def names(registry) -> Iterator[str]:
        for name in registry.module_dict:
            yield from (name, f"{registry.scope}.{name}")
        for child in registry.children.values():
            yield from names(child)

    roots = (x for x in vars(mmengine.registry).values() if isinstance(x, mmengine.registry.Registry))
    return {name for root in roots for name in names(root)}
