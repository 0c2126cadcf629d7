"""Recipes by name: the network, its optimiser, and sizes such as ``scale``, ``crop_size`` and ``max_iters``.

A recipe is a small mmengine config: a file in ``configs``, a file of the user's, or composed from its name
(:mod:`lib.recipes.compose`). :func:`lib.training.config.build_config` completes it into the config that trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lib.errors import InputError
from lib.recipes import compose, heads

if TYPE_CHECKING:  # importing mmengine takes seconds
    from mmengine import Config

_FOLDER = Path(__file__).parent / "configs"


def names() -> list[str]:
    """Return the names of the recipes that come as files."""
    return sorted(path.stem for path in _FOLDER.glob("*.py"))


def known() -> str:
    """Return the names that :func:`check` accepts, in words."""
    files = ", ".join(names())
    return f"{files}, one of them and a head (demo_mask2former), or {compose.FORM}"


def check(recipe: str | Path) -> None:
    """Check that a recipe exists and its head is installed; quick, imports nothing.

    Args:
        recipe: a name from :func:`names`, one of those and a head, a composed name
            (:data:`lib.recipes.compose.FORM`), or the path of a recipe file.

    Raises:
        InputError: unknown recipe (lists the known ones), or a head that is not installed.
    """
    _, head, parts = _look_up(recipe)
    if "mask2former" in (head, parts and parts.head):
        heads.require_mask2former()


def _look_up(recipe: str | Path) -> tuple[Path | None, str | None, compose.Parts | None]:
    """Return the recipe's file and the head that replaces its own, if any; or the parts that it is composed of."""
    name = str(recipe)
    base, _, head = name.rpartition("_")
    if name in names():
        return _FOLDER / f"{name}.py", None, None
    if base in names() and head in heads.HEADS:
        return _FOLDER / f"{base}.py", head, None
    if parts := compose.parse(name):
        return None, None, parts
    path = Path(recipe)
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"recipe: {name!r} is neither a file nor one of: {known()}")
    return path, None, None


def load(recipe: str | Path) -> Config:
    """Load a recipe; see :func:`check`."""
    from mmengine import Config

    check(recipe)
    file, head, parts = _look_up(recipe)
    if parts:
        return compose.compose(parts)
    cfg = Config.fromfile(file)
    return compose.replace_head(cfg, head) if head else cfg


def network(cfg: Config):
    """Return the config of the network alone, which checkpoints hold and inference builds."""
    return cfg.model.get("segmentor", cfg.model)  # self-training wraps it
