"""One notebook, executed by papermill in a kernel of the running interpreter."""

import builtins
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from lib.errors import InputError


class NotebookError(RuntimeError):
    """Failure of a cell, as one sentence: the notebook, the cell and the error."""


class Interrupted(RuntimeError):
    """The user's Ctrl-C; kernel and training have ended."""


class Kernel(AsyncKernelManager):
    """Kernel of the running interpreter; Jupyter's name ``python3`` may mean another one."""

    variables: dict[str, str] = {}

    @property
    def kernel_spec(self) -> KernelSpec:
        # Its log is silent because a kernel reports its own shutdown as an error.
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(
            argv=[*command, "--IPKernelApp.log_level=50"],
            display_name="Python 3",
            language="python",
            env=self.variables,
        )

    def process(self) -> Any:
        """Return the running process; None without one."""
        return getattr(self.provisioner, "process", None)

    def exit_code(self) -> int:
        """Return the exit code of the process, after it ended by itself; -N: signal N."""
        process = self.process()
        return process.wait() if process else 0


def execute(source: Path, target: Path, values: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """Execute the notebook ``source`` with ``values`` for its parameters; write it to ``target`` as far as it ran.

    ``variables`` are added to the kernel's environment. Ctrl-C interrupts the running cell; a second one ends the
    kernel at once.

    Raises:
        NotebookError: a cell failed, or the kernel ended.
        Interrupted: by Ctrl-C.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("traitlets").setLevel(logging.CRITICAL)  # the death of a kernel is reported below
    kernel = Kernel(kernel_name="python3")
    kernel.variables = dict(variables)
    with _forwarded(kernel) as signals:
        try:
            papermill.execute_notebook(
                _literal(source),
                _literal(target),
                dict(values),
                km=kernel,
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                coalesce_streams=True,  # keeps the last state of a progress bar only
            )
        except PapermillExecutionError as error:
            if not signals:
                raise NotebookError(f"{source.name}, cell {error.exec_count}: {_in_words(error)}") from None
        except (DeadKernelError, RuntimeError):  # RuntimeError: it ended before the first cell
            if not signals:
                raise NotebookError(f"{source.name}: {_death(kernel.exit_code())}") from None
        finally:
            if kernel.has_kernel:
                run_sync(kernel.shutdown_kernel)(now=bool(signals))
    if signals:
        raise Interrupted(source.stem)


def _literal(path: Path) -> str:
    """Return a path as papermill's template of itself."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextmanager
def _forwarded(kernel: Kernel) -> Iterator[list[int]]:
    """Send Ctrl-C to the kernel instead of stopping here; yield the signals received so far."""
    received: list[int] = []

    def forward(number: int, _frame: Any) -> None:
        received.append(number)
        if process := kernel.process():
            process.send_signal(signal.SIGINT if len(received) == 1 else signal.SIGKILL)

    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
        yield received
        return
    former = signal.signal(signal.SIGINT, forward)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, former)


def _in_words(error: Any) -> str:
    """Return the error of a cell (papermill's record) as a sentence."""
    message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue))  # without terminal colours
    if error.ename == InputError.__name__:
        return message
    kind = getattr(builtins, error.ename, None)
    if isinstance(kind, type) and issubclass(kind, OSError):
        if found := re.fullmatch(r"\[Errno \d+\] (.*?)(?:: ('.*'|\".*\"))?", message):
            return f"{found[2] or 'a file'}: {found[1]}"
    return f"{error.ename}: {message}"


def _death(code: int) -> str:
    cause = f"exit code {code}"
    if code < 0:
        cause = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            cause += ", as the system does when memory runs out"
    return f"its Python process ended ({cause}); what is finished is kept, and the same command with --resume continues"
