"""Recipes by name: small mmengine configs of the network, its optimiser, and sizes such as ``crop_size``.

A recipe is a file in ``configs``, a file of the user's, or composed from its name.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from lib.errors import InputError
from lib.recipes import compose, heads

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

_FOLDER = Path(__file__).parent / "configs"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence mmseg's reports of optional parts that are not installed; nothing here needs them."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def names() -> list[str]:
    """Return the names of the recipes that come as files."""
    return sorted(path.stem for path in _FOLDER.glob("*.py"))


def check(recipe: str | Path) -> tuple[Path, str, compose.Parts | None]:
    """Return a recipe's file and the head that replaces its own ("": none), or the parts of a composed one.

    Raises:
        InputError: unknown recipe, or a head that is not installed.
    """
    name, path = str(recipe), Path(recipe)
    base, _, head = name.rpartition("_")
    parts = compose.parse(name)
    if base in names() and head in heads.HEADS:
        path = _FOLDER / f"{base}.py"
    else:
        head = ""
        if name in names():
            path = _FOLDER / f"{name}.py"
        elif not parts and not (path.suffix == ".py" and path.is_file()):
            known = f"{', '.join(names())}, one of them and a head (demo_mask2former), or {compose.FORM}"
            close = "".join(f"; did you mean {near}?" for near in get_close_matches(name, names(), 1))
            raise InputError(f"recipe: {name!r} is neither a file nor one of: {known}{close}")
    if "mask2former" in (head, parts and parts.head):
        heads.require_mask2former()
    return path, head, parts


def load(recipe: str | Path) -> Config:
    """Load a recipe; see :func:`check`.

    Raises:
        InputError: also for a file that cannot be executed.
    """
    from mmengine import Config

    path, head, parts = check(recipe)
    if parts:
        return compose.compose(parts)
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a recipe is Python, which may raise anything
        found = f"{type(error).__name__}, {' '.join(str(error).split())}"
        raise InputError(f"recipe: {path} cannot be executed ({found}); mend the file.") from error
    return compose.replace_head(cfg, head) if head else cfg


def network(cfg: Config):
    """Return the config of the network alone, which checkpoints hold and inference builds."""
    return cfg.model.get("segmentor", cfg.model)  # self-training wraps it
