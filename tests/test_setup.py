"""The repository's own promises: pins in step, floors kept, notebooks clean."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

# Upper floors import lower ones only.
FLOORS = [
    {"lib.dataset.classes", "lib.run", "lib.diagnostics.plots", "lib.internimage.mmcv_ops"},
    {"lib.dataset.image_files"},
    {"lib.dataset.layout"},
    {"lib.camera.radial", "lib.camera.models"},
    {"lib.camera.grid", "lib.target.appearance"},
    {"lib.camera.remap"},
    {"lib.target.overlay", "lib.target.image_circle", "lib.target.edges", "lib.camera.mirror", "lib.target.plumb_line"},
    {"lib.target.lens", "lib.target.overlay_groups"},
    {"lib.sample"},
    {"lib.synthesis.target_camera"},
    {
        "lib.stages.augment",
        "lib.internimage",
        "lib.recipes",
        "lib.prediction.test_time",
        "lib.prediction.windows",
        "lib.prediction.fusion",
    },
    {"lib.training.self_training", "lib.training.process"},
    {"lib.stages.train", "lib.tools.costs", "lib.prediction.network"},
    {"lib.prediction.selection", "lib.stages.submit", "lib.tools.zoo", "lib.tools.rehearsal"},
    {"lib.stages.infer"},
    {"lib.diagnostics.explore"},
    {"lib.pipeline"},
]


def test_conda_and_pip_install_the_same_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    assert all(pin.count("==") == 1 for pin in wanted)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert sorted(pip) == sorted([*wanted, "--editable ."])


def test_mmdetection_comes_without_its_dependencies_everywhere():
    (pin,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["mmdetection"]
    assert pin.count("==") == 1
    assert f"pip install --no-deps {pin}\n" in (ROOT / "environment.yml").read_text()
    recipe = re.search(r"\.venv/\.mask2former:.*?touch", (ROOT / "Makefile").read_text(), re.DOTALL)[0]
    pattern = re.search(r"--no-deps.*sed -n 's/(.*?)/", recipe, re.DOTALL)[1].replace("\\", "")
    assert re.findall(pattern, (ROOT / "pyproject.toml").read_text()) == [pin]


def _floor(module: str) -> int | None:
    for number, names in enumerate(FLOORS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return number
    return None


def test_no_module_imports_upwards():
    for path in (ROOT / "lib").rglob("*.py"):
        if "configs" in path.parts:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        own = _floor(module)
        if own is None:
            assert module in ("lib", "lib.fisheye", "lib.prediction"), f"{module} stands on no floor"
            continue
        for imported in _imports(path):
            floor = _floor(imported)
            assert floor is None or floor <= own, f"{module} imports {imported}, which stands above it"


def test_the_operator_stands_alone():
    for path in (ROOT / "ops_dcnv3").rglob("*.py"):
        assert not [name for name in _imports(path) if name == "lib" or name.startswith("lib.")]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_committed_clean(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1


def test_there_are_four_notebooks():
    from lib.pipeline import STAGES

    assert sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb")) == sorted(STAGES.values())
