"""Build for ``pip install`` of this folder: copy the package and compile its kernels.

The kernels are compiled for the installed torch, which pip hides from a build. Without a torch the package is installed
without them, and ``python -m ops_dcnv3.build`` compiles them later.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py


class BuildWithKernels(build_py):
    """Copy the package and compile the kernels into the copy; an editable install compiles in place."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [module for module in super().find_package_modules(package, package_dir) if module[1] != "setup"]

    def run(self) -> None:
        super().run()
        where = Path(__file__).resolve().parents[1] if self.editable_mode else Path(self.build_lib).resolve()
        environment = dict(os.environ)
        if importlib.util.find_spec("torch") is None:
            # With these two, pip hides the packages of the interpreter that it installs into.
            for name in ("PYTHONPATH", "PYTHONNOUSERSITE"):
                environment.pop(name, None)
        done = subprocess.run([sys.executable, "-m", "ops_dcnv3.build"], cwd=where, env=environment)
        if done.returncode:
            print(
                "warning: ops_dcnv3 is installed without kernels; `python -m ops_dcnv3.build` builds them, with torch"
            )


class AnyPython(bdist_wheel):
    """Wheel for any Python: the kernels depend on the platform alone, since torch loads them through its stable ABI."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class WithLibraries(Distribution):
    def has_ext_modules(self) -> bool:
        return True


# A folder `build` beside the sources would stay, and the next wheel would take over its content.
scratch = tempfile.mkdtemp(prefix="ops_dcnv3-")
atexit.register(shutil.rmtree, scratch, ignore_errors=True)
setup(
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": AnyPython},
    distclass=WithLibraries,
    options={"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}},
)
