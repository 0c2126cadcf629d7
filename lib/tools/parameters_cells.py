"""The notebooks' parameters cells, written from the stages' options."""

from pathlib import Path
from typing import Any

import nbformat

from lib.files import whole_file
from lib.options import Options
from lib.pipeline import STAGES, notebooks_folder


def parameters_cell(options: type[Options]) -> str:
    """Return the source of a parameters cell: one option a line, with its default and its sentence."""
    return "\n".join(
        f"{name} = {_literal(value)}  # {options.sentence(name)}" for name, value in options.defaults().items()
    )


def write_cells(folder: Path | None = None) -> None:
    """Rewrite the parameters cell of every notebook in ``folder``; None: the project's own notebooks."""
    for stage in STAGES.values():
        path = (folder or notebooks_folder()) / stage.notebook
        notebook = nbformat.read(path, as_version=4)
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source = parameters_cell(stage.options)
        with whole_file(path) as temporary:
            nbformat.write(notebook, temporary)


def _literal(value: Any) -> str:
    return '"' + value + '"' if isinstance(value, str) else repr(value)
