"""The repository's own promises: pins in step, checks that cover everything, notebooks clean."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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


def test_no_module_is_left_out_by_the_type_checker():
    assert not [entry for entry in PROJECT["tool"]["mypy"].get("overrides", []) if entry.get("ignore_errors")]
    assert "exclude" not in PROJECT["tool"]["mypy"]


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
