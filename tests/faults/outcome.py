"""Outcome of a bad input: refused in plain words, or a fault of the product."""

from collections.abc import Callable

from lib.errors import InputError


def refused(work: Callable, *arguments, naming: str = "") -> None:
    """Call ``work``, which has to raise an InputError without Python's words that has ``naming`` in it."""
    try:
        work(*arguments)
    except InputError as error:
        message = str(error)
        assert "Traceback" not in message and "Error(" not in message, message
        assert naming in message, f"{naming!r} is not named: {message}"
        return
    raise AssertionError("accepted")
