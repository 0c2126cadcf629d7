"""The parameters cells of the notebooks are the options of the stages."""

import shutil

import nbformat
import pytest

from lib import pipeline
from lib.tools.parameters_cells import parameters_cell, write_cells


@pytest.mark.parametrize("name", pipeline.STAGES)
def test_the_parameters_cell_is_the_options(name):
    """`make notebooks` writes the cells anew."""
    stage = pipeline.STAGES[name]
    cells = nbformat.read(pipeline.notebooks_folder() / stage.notebook, as_version=4).cells
    sources = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert sources == [parameters_cell(stage.options)]
    assert max(map(len, sources[0].splitlines())) <= 120


def test_the_cells_are_written_from_the_options(tmp_path):
    shutil.copytree(pipeline.notebooks_folder(), tmp_path, dirs_exist_ok=True)
    before = {path.name: path.read_text() for path in tmp_path.glob("*.ipynb")}
    path = tmp_path / "01_augment.ipynb"
    path.write_text(before[path.name].replace("copies = 1 ", "copies = 2 "))
    write_cells(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.ipynb")} == before
