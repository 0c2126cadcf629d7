"""The project's wheel: its contents, and the demo in an empty folder outside the repository."""

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

import lib
from tests.environments import OFFLINE, PIP, empty_environment, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", folder, ROOT, cwd=folder)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """Folder of an environment with the wheel and, for everything else, the packages of this one."""
    home = tmp_path_factory.mktemp("environment")
    python, packages = empty_environment(home)
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    # Packages that were installed editable are named in .pth files, which count in the first folder only.
    (packages / "present.pth").write_text(str(Path(torch.__file__).parents[1]))
    return home


def names_in(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_it_carries_the_library_the_operator_and_the_notebooks(wheel):
    files = {path.relative_to(ROOT) for part in ("lib", "ops_dcnv3") for path in (ROOT / part).rglob("*")}
    suffixes = (".py", ".cpp", ".h", ".cu", ".cuh")
    expected = {str(path) for path in files if path.suffix in suffixes} - {"ops_dcnv3/setup.py"}
    expected |= {f"lib/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    names = names_in(wheel)
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {"lib", "ops_dcnv3", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert wheel.name.split("-")[1] == lib.__version__


def test_the_source_archive_gives_the_same_wheel(wheel, tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=source)
    assert names_in(tmp_path / wheel.name) == names_in(wheel)


def test_the_code_is_that_of_the_wheel(environment, tmp_path):
    code = "import lib, ops_dcnv3; print(lib.__file__, ops_dcnv3.__file__)"
    for file in run(environment / "bin" / "python", "-c", code, cwd=tmp_path).split():
        assert Path(file).is_relative_to(environment)


def test_the_command_says_its_version_and_options(environment, tmp_path):
    fisheye = environment / "bin" / "fisheye"
    assert lib.__version__ in run(fisheye, "--version", cwd=tmp_path)
    assert "max_iters" in run(fisheye, "options", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_demo_runs_in_an_empty_folder(environment, tmp_path):
    before = {path for path in environment.rglob("*") if "__pycache__" not in path.parts}
    output = run(environment / "bin" / "fisheye", "demo", "--iters", 4, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert (tmp_path / "outputs" / "demo" / "submission.csv").exists(), output
    assert {path for path in environment.rglob("*") if "__pycache__" not in path.parts} == before
