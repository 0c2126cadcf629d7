"""Options as frozen dataclasses: one field holds default, allowed values and one sentence.

The parameters cells of the notebooks, ``--help``, validation and ``parameters.yaml`` all come from these fields.
"""

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import TypeAdapter, ValidationError

from lib.errors import InputError

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
        for name in self.names():
            value = _plain(getattr(self, name))
            try:
                adapter = _adapter(type(self), name)  # type: ignore[arg-type]  # hashes classes, not instances
                value = adapter.validate_python(value, strict=True)
            except ValidationError:
                raise InputError(f"{name}: {value!r} (expected: {self.expected(name)})") from None
            object.__setattr__(self, name, value)

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
    return TypeAdapter(_hints(cls)[name])


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return str(value) if hasattr(value, "__fspath__") else value


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
        count = f"{lengths.min_length} or more" if lengths.max_length is None else str(lengths.max_length)
        return f"a list of {count} values, each {_words(arguments[0])}"
    words = _NOUNS.get(origin or annotation, str(annotation))
    for bound in metadata:
        words += "".join(f" {text} {getattr(bound, key)}" for kind, key, text in _BOUNDS if isinstance(bound, kind))
    return words
