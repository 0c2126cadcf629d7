"""Execution of one notebook: its kernel, failures, and Ctrl-C."""

import json
import os
import signal
import threading
import time

import nbformat
import pytest

from lib.errors import InputError
from lib.execution import Interrupted, NotebookError, execute

pytestmark = pytest.mark.slow  # each test starts a kernel


def notebook(folder, *cells):
    """Write a notebook with a parameters cell and these code cells; return its path."""
    parameters = nbformat.v4.new_code_cell("value = 1", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    made = nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, cells)], metadata=kernel)
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, folder / "work.ipynb")
    return folder / "work.ipynb"


def test_paths_may_have_braces(tmp_path):
    target = tmp_path / "b{seed}" / "c{{x}}" / "done.ipynb"
    target.parent.mkdir(parents=True)
    execute(notebook(tmp_path / "a{0}", "print(value + 1)"), target, {"value": 41}, {})
    assert "42" in target.read_text()


def test_the_kernel_is_that_of_the_running_interpreter(tmp_path, monkeypatch):
    other = tmp_path / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    source = notebook(tmp_path, "import os; open('found', 'w').write(os.environ['GIVEN'])")
    execute(source, tmp_path / "done.ipynb", {}, {"GIVEN": "yes"})
    assert (tmp_path / "found").read_text() == "yes"


def test_a_kernel_that_is_killed_is_reported(tmp_path, capfd):
    source = notebook(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NotebookError, match=r"work.ipynb: its Python process ended \(SIGKILL, .*--resume continues"):
        execute(source, tmp_path / "done.ipynb", {}, {})
    assert not capfd.readouterr().err


def test_errors_of_cells_are_sentences(tmp_path):
    full = notebook(tmp_path, "import errno; raise OSError(errno.ENOSPC, 'No space left on device', '/disk/a.png')")
    with pytest.raises(NotebookError, match=r"^work.ipynb, cell \d: '/disk/a.png': No space left on device$"):
        execute(full, tmp_path / "done.ipynb", {}, {})
    faulty = notebook(tmp_path, f"from {InputError.__module__} import InputError; raise InputError('a.csv: no rows')")
    with pytest.raises(NotebookError, match=r"^work.ipynb, cell \d: a.csv: no rows$"):
        execute(faulty, tmp_path / "done.ipynb", {}, {})


@pytest.mark.parametrize("cell", ["pass", "signal.signal(signal.SIGINT, signal.SIG_IGN)"])
def test_an_interrupt_ends_cell_and_kernel(cell, tmp_path, capfd):
    """Also a cell that ignores it, at the second one."""
    begin = "import os, signal, time, pathlib; pathlib.Path('began').write_text(str(os.getpid()))"
    source = notebook(tmp_path, f"{begin}; {cell}\nfor _ in range(600): time.sleep(0.1)")

    def press() -> None:
        while not (tmp_path / "began").exists():
            time.sleep(0.05)
        for _ in range(2 if "signal" in cell else 1):
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    start = time.monotonic()
    with pytest.raises(Interrupted):
        execute(source, tmp_path / "done.ipynb", {}, {})
    assert time.monotonic() - start < 40
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "began").read_text()), 0)
    assert "Traceback" not in capfd.readouterr().err
