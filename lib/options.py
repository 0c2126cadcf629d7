"""Options as frozen dataclasses: one field holds default, allowed values and one sentence.

The parameters cells of the notebooks, ``--help``, validation and ``parameters.yaml`` all come from these fields.
"""

import dataclasses
import math
import re
import reprlib
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from lib.errors import InputError

_LONGEST = 4096  # characters of a text: a path's limit on Linux
_LARGEST = 2**63  # of whole numbers, in size
_MOST = 10_000  # values inside one option
_DEEPEST = 20  # lists and mappings inside each other
_SHOWN = 120  # characters of a value that a message shows

Seed = Annotated[int, Ge(0), Le(2**31 - 1)]
"""Seed of random numbers; NumPy and data loaders, which add to it, take 32 bits."""

_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping"}
_BOUNDS = ((Ge, "ge", "from"), (Gt, "gt", "above"), (Le, "le", "to"), (Lt, "lt", "below"))


def option(default: Any, sentence: str, *, identity: bool = True, expected: str = "") -> Any:
    """Declare an option as a dataclass field.

    Args:
        default: default value.
        sentence: what the option does, for ``--help`` and the notebook's parameters cell; no full stop.
        identity: whether results depend on the option. Results made with another value are not taken as done.
        expected: allowed values in words, where the annotation does not say enough.
    """
    metadata = {"sentence": sentence, "identity": identity, "expected": expected}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base class of options: a frozen, keyword-only dataclass whose values are checked against their annotations.

    Paths become text and tuples become lists, so that values can be written to YAML as they are.

    Raises:
        InputError: a value that is not allowed; names the option, the value and what is expected.
    """

    def __post_init__(self):
        faults = []
        for name in self.names():
            value = getattr(self, name)
            try:
                value = _plain(value)
                adapter = _adapter(type(self), name)  # type: ignore[arg-type]  # hashes classes, not instances
                object.__setattr__(self, name, adapter.validate_python(value, strict=True))
                continue
            except _Odd as odd:
                found = f" holds {odd} (expected: plain, finite values of moderate size)"
            except ValidationError:
                found = f" (expected: {self.expected(name)})"
            faults.append(f"{name}: {shown(value)}{found}")
        if faults:
            raise InputError("\n".join(faults))

    @classmethod
    def collect(cls, values: Mapping[str, Any]) -> Self:
        """Build options from those entries of ``values`` that name an option, such as a notebook's ``globals()``."""
        return cls(**{name: values[name] for name in cls.names() if name in values})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the options in the order of their declaration."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def default(cls, name: str) -> Any:
        """Return an option's default value."""
        field = cls.__dataclass_fields__[name]
        return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()

    @classmethod
    def sentence(cls, name: str) -> str:
        """Return the sentence that explains an option."""
        return cls.__dataclass_fields__[name].metadata["sentence"]

    @classmethod
    def expected(cls, name: str) -> str:
        """Return the allowed values of an option in words, such as "a number from 0 to 1"."""
        return cls.__dataclass_fields__[name].metadata["expected"] or _words(_hints(cls)[name])

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the default value of every option."""
        return {name: cls.default(name) for name in cls.names()}

    def inputs(self) -> dict[str, str]:
        """Return the digests, by name, of the files that results are made from."""
        return {}

    def chosen(self) -> list[str]:
        """Return the options whose values :meth:`resolved` chooses; another choice is a change of inputs."""
        return []

    def is_whole(self) -> bool:
        """Return whether every file that a finished stage has written, or names in its tables, is there."""
        return True

    def resolved(self) -> Self:
        """Return the options after choices that depend on data; without such choices, these options."""
        return self

    def identity(self) -> dict[str, Any]:
        """Return the options that results depend on, as plain values for ``parameters.yaml``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["identity"]}


def _hints(cls: type[Options]) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


@cache
def _adapter(cls: type[Options], name: str) -> TypeAdapter:
    return TypeAdapter(_hints(cls)[name], config=ConfigDict(allow_inf_nan=False))


class _Odd(ValueError):
    """Content of a value that no option may have."""


def shown(value: Any) -> str:
    """Return a value as text for a message, shortened where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = _SHOWN
    short.maxlist = short.maxdict = 12
    short.maxlevel = 3
    try:
        return short.repr(value)
    except ValueError:  # Python does not write integers of more than 4300 digits
        return "a number of thousands of digits"


def _plain(value: Any) -> Any:
    """Return the value as YAML can hold it: Paths become text, tuples and numpy's arrays lists.

    Raises:
        _Odd: it holds what neither YAML nor a file name can have.
    """
    left = _MOST

    def convert(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise _Odd("too many values")
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, tuple | list):
            return [convert(one, depth + 1) for one in value]
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                raise _Odd("a name that is not text")
            return {convert(key, depth + 1): convert(one, depth + 1) for key, one in value.items()}
        value = str(value) if hasattr(value, "__fspath__") else value
        if isinstance(value, str) and (found := _odd_text(value)):
            raise _Odd(found)
        if isinstance(value, int) and abs(value) >= _LARGEST:
            raise _Odd("too large a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise _Odd("a number that is not finite")
        if not isinstance(value, str | int | float | None):
            raise _Odd(f"a {type(value).__name__}")
        return value

    return convert(value, 0)


def _odd_text(text: str) -> str:
    """Return in words what makes a text no name of anything; empty for an ordinary one."""
    if not text.strip():
        return "no characters"
    if len(text) > _LONGEST:
        return f"{len(text)} characters"
    return "bytes that are no UTF-8 text" if re.search("[\0\ud800-\udfff]", text) else ""


def _words(annotation: Any, metadata: tuple = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    if origin is Literal:
        return ("one of: " if len(arguments) > 1 else "") + ", ".join(map(str, arguments))
    if annotation in (None, type(None)):
        return "null"
    if origin is list:
        lengths = next((m for m in metadata if isinstance(m, Len)), Len(0))
        count = f"{lengths.min_length} or more"
        if lengths.max_length is not None:
            least = f"{lengths.min_length} to " if lengths.min_length < lengths.max_length else ""
            count = f"{least}{lengths.max_length}"
        return f"a list of {count} values, each {_words(arguments[0])}"
    words = _NOUNS.get(origin or annotation, str(annotation))
    for bound in metadata:
        words += "".join(f" {text} {getattr(bound, key)}" for kind, key, text in _BOUNDS if isinstance(bound, kind))
    return words
