"""The operator alone: ``pip install ./ops_dcnv3``, and the example of its README in an empty folder."""

import re
import zipfile
from pathlib import Path

import pytest
import setuptools
import torch

from ops_dcnv3 import compilation
from tests.environments import OFFLINE, PIP, empty_environment, run

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "ops_dcnv3"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, made without network and without the CUDA part, which takes minutes where there is nvcc."""
    try:
        compilation.compiler()
    except compilation.BuildError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("wheel")
    before = sorted(FOLDER.iterdir())
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", folder, FOLDER, cwd=folder, CUDA_HOME=str(folder))
    assert sorted(FOLDER.iterdir()) == before
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of a fresh environment that has the wheel, and otherwise what torch comes with here."""
    home = tmp_path_factory.mktemp("environment")
    python, packages = empty_environment(home)
    # Packages that were installed editable are named in .pth files, which count in the first folder only.
    (packages / "torch.pth").write_text(str(Path(torch.__file__).parents[1]))
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    return python


def test_one_wheel_serves_every_python(wheel):
    assert re.fullmatch(r"ops_dcnv3-[\d.]+-py3-none-\w+\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert f"ops_dcnv3/{compilation.library('cpu').name}" in names
    assert {f"ops_dcnv3/csrc/{path.name}" for path in compilation.sources("cpu")} <= set(names)
    assert "ops_dcnv3/setup.py" not in names


def test_the_example_of_the_readme_runs_by_itself(python, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert run(python, "-W", "error::UserWarning", "-c", example, cwd=tmp_path).strip()


def test_it_has_its_kernels_and_nothing_of_the_project(python, tmp_path):
    code = (
        "import importlib.util, ops_dcnv3.kernels as k; print(k.__file__, 'cpu' in k.absent, "
        "importlib.util.find_spec('lib'))"
    )
    file, absent, lib = run(python, "-c", code, cwd=tmp_path).split()
    assert Path(file).is_relative_to(python.parents[1])
    assert (absent, lib) == ("False", "None")


def test_without_torch_it_installs_and_says_what_is_missing(tmp_path):
    python, packages = empty_environment(tmp_path)
    folder = tmp_path / "wheel"
    present = Path(setuptools.__file__).parents[1]
    for part in (*present.glob("setuptools*"), present / "_distutils_hack"):
        (packages / part.name).symlink_to(part)
    said = run(*PIP, "--python", python, "wheel", "-v", *OFFLINE, "--wheel-dir", folder, FOLDER, cwd=tmp_path)
    assert "warning: ops_dcnv3 is installed without kernels" in said
    assert not [name for name in zipfile.ZipFile(*folder.iterdir()).namelist() if name.endswith(".so")]
