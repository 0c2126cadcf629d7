"""The repository's own promises: pins in step, checks that cover everything, notebooks clean."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES_WITH_TYPE_ERRORS = 15
"""Length of mypy's list of modules with errors. Lower it whenever a module leaves the list."""


def test_conda_and_pip_install_the_same_pins():
    project = PROJECT["project"]
    wanted = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    assert all(pin.count("==") == 1 for pin in wanted)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert sorted(pip) == sorted([*wanted, "--editable ."])


def test_mmdetection_comes_without_its_dependencies_everywhere():
    (pin,) = PROJECT["dependency-groups"]["mmdetection"]
    assert pin.count("==") == 1
    assert f"pip install --no-deps {pin}\n" in (ROOT / "environment.yml").read_text()
    recipe = re.search(r"\.venv/\.mask2former:.*?touch", (ROOT / "Makefile").read_text(), re.DOTALL)[0]
    pattern = re.search(r"--no-deps.*sed -n 's/(.*?)/", recipe, re.DOTALL)[1].replace("\\", "")
    assert re.findall(pattern, (ROOT / "pyproject.toml").read_text()) == [pin]


def test_fewer_and_fewer_modules_have_type_errors():
    (listed,) = (entry["module"] for entry in PROJECT["tool"]["mypy"]["overrides"] if entry.get("ignore_errors"))
    assert len(listed) == MODULES_WITH_TYPE_ERRORS
    assert listed == sorted(set(listed)) and not [name for name in listed if "*" in name]
    files = [ROOT / name.replace(".", "/") for name in listed]
    assert not [file for file in files if not file.with_suffix(".py").exists() and not (file / "__init__.py").exists()]


def test_no_file_hides_from_the_checks():
    hiding = re.compile(r"#\s*(mypy|ruff|flake8):|# fmt:")
    for folder in ("lib", "ops_dcnv3"):
        assert not [path for path in (ROOT / folder).rglob("*.py") if hiding.search(path.read_text())]


def test_the_build_backend_of_the_tests_is_the_projects():
    (backend,) = PROJECT["build-system"]["requires"]
    assert backend in PROJECT["project"]["optional-dependencies"]["test"]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_committed_clean(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1


def test_there_are_four_notebooks():
    from lib.pipeline import STAGES

    assert sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb")) == sorted(
        stage.notebook for stage in STAGES.values()
    )
