"""Virtual environments in which tests install what they have built, without network."""

import os
import subprocess
import sys
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["--no-build-isolation", "--no-deps", "--no-index"]


def run(*command, cwd, **environment):
    """Return the output of a command that must succeed."""
    hidden = ("PYTHONPATH", "OPS_DCNV3_REFERENCE")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | environment
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, **streams)
    assert done.returncode == 0, done.stdout
    return done.stdout


def empty_environment(folder):
    """Return the Python of a new environment without any package, and the folder for its packages."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return python, Path(run(python, "-c", code, cwd=folder).strip())
