"""YAML files of cameras, as strangers write them: every fault is one sentence with the file's name."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import ClassVar

import yaml

from lib.camera.models import Camera, from_dict
from lib.errors import InputError

_LARGEST = 1 << 16  # bytes; a camera takes some hundred


class _Loader(yaml.SafeLoader):
    """Text and decimal numbers alone: no key twice, and no aliases, which can grow without bound.

    YAML 1.1 reads 0330 as octal, 5:30 as 330 and 3e2 as text; a camera's file means none of these.
    """

    yaml_implicit_resolvers: ClassVar[dict] = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, f"alias *{event.anchor}, write its values", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in keys:
                problem = f"key {key} twice" if isinstance(key, Hashable) else "a list or mapping as key"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


_DIGITS = list("-+.0123456789")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9]\d*)$"), _DIGITS)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$"), _DIGITS
)


def from_yaml(path: str | Path) -> Camera:
    """Read the camera in a file that holds the values of :meth:`lib.camera.models.Camera.to_dict`.

    Raises:
        InputError: no such file, or one that does not describe a camera.
    """
    return _camera(path, _mapping(path, "the fields of one camera"))


def read_cameras(path: str | Path) -> tuple[Camera, Camera]:
    """Read the known source and target camera of a file with one camera under ``source`` and one under ``target``.

    Raises:
        InputError: no such file, or one that does not describe two cameras.
    """
    expected = "a camera under `source` and one under `target`"
    found = _mapping(path, expected)
    for name in ("source", "target"):
        if name not in found:
            raise InputError(f"{path}: no `{name}` (expected: {expected})")
    return _camera(path, found["source"], "source: "), _camera(path, found["target"], "target: ")


def _camera(path: str | Path, values: object, name: str = "") -> Camera:
    try:
        return from_dict(values)
    except ValueError as error:
        raise InputError(f"{path}: {name}{error}") from None


def _mapping(path: str | Path, expected: str) -> dict:
    """Return the mapping in a YAML file of UTF-8 text; ``expected`` says what it should hold."""
    path, expected = Path(path), f"(expected: {expected})"
    try:
        if not path.is_file():
            found = "not a file" if path.exists() else "does not exist"
            raise InputError(f"{path}: {found} {expected}")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror} {expected}") from None
    if len(content) > _LARGEST:
        raise InputError(f"{path}: more than {_LARGEST >> 10} kB {expected}")
    try:
        found = yaml.load(content.decode("utf-8-sig"), _Loader)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text {expected}; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path}: {line}{error.problem} {expected}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply {expected}") from None
    except (ValueError, yaml.YAMLError):  # numbers that Python cannot hold, control characters
        raise InputError(f"{path}: holds a value that cannot be read {expected}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no mapping {expected}")
    return found
