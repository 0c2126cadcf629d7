"""Start the training processes and follow them: a notebook stays responsive, and several GPUs can be used."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

from lib.errors import InputError
from lib.files import read_json
from lib.run import Run
from lib.training.checkpoints import set_damaged_aside
from lib.training.hardware import Hardware
from lib.training.processes import die_with_parent, watched
from lib.training.progress import progress_bar

# Exit codes of a process that neither Python nor a person ended.
_CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}

_PATIENCE_S = 60  # torchrun waits half of it for its processes
_REMEDY = "run it again to resume from its last checkpoint, if there is one"


def launch(run: Run, hardware: Hardware, max_iters: int, workers: int) -> None:
    """Train as ``train/config.json`` says, with a progress bar; all output goes to ``train/train.log``.

    The training resumes from its newest sound checkpoint. After a crash (a fault in native code, not an exception) it
    restarts from there, as long as it had reached a new one. ``workers``: data loader processes per training process.

    Raises:
        InputError: from the training process.
        RuntimeError: the training failed; carries the last lines of its output.
    """
    while True:
        set_damaged_aside(run)
        start = run.last_checkpoint()
        code, error, tail = _train(run, hardware, max_iters, workers)
        reached = run.last_checkpoint()
        if code not in _CRASHES or reached is None or reached == start:
            break
        message = f"The training crashed ({_in_words(code)}, see {run.log}); it resumes from {reached.name}."
        print(message, file=sys.stderr, flush=True)
    kind = f"{InputError.__name__}: "
    if error.startswith(kind):
        raise InputError(error.removeprefix(kind))
    if code:
        raise RuntimeError(
            f"the training process ended with {_in_words(code, error)}; {_REMEDY}. Its whole output: {run.log}. "
            f"Its last lines:\n{''.join(tail)}"
        )


def _in_words(code: int, error: str = "") -> str:
    reason = signal.Signals(-code).name if code < 0 else error.strip().partition("\n")[0]
    if code == -signal.SIGKILL:
        reason += ", as the system ends processes when memory runs out"
    return f"exit code {code}" + (f" ({reason})" if reason else "")


def _train(run: Run, hardware: Hardware, max_iters: int, workers: int) -> tuple[int, str, deque[str]]:
    """Return the first failed process's exit code (-N: signal N), its exception as text, and the last output."""
    tail: deque[str] = deque(maxlen=30)  # that an error shows
    command = [sys.executable, "-m", "lib.training.worker", str(run.config), str(hardware.processes)]
    with tempfile.TemporaryDirectory() as folder:
        error_file = Path(folder) / "error.json"
        environment = _environment(hardware, workers) | {"TORCHELASTIC_ERROR_FILE": str(error_file)}
        child = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        try:
            with run.log.open("a", buffering=1) as log, watched(child.pid) as stalls:
                for line in progress_bar(child.stdout or (), max_iters):
                    log.write(line)
                    if "Extension modules:" not in line:
                        tail.append(line)
        except BaseException:
            child.terminate()
            raise
        finally:
            code = _wait(child)
        error = read_json(error_file).get("message", {}).get("message", "")
    if stalls:
        raise RuntimeError(f"the training stalled: {stalls[0]}; {_REMEDY}. Its whole output: {run.log}.")
    return 128 - code if code > 128 else code, error, tail


def _wait(child: subprocess.Popen) -> int:
    """Return the exit code of a process that has closed its output or was told to end."""
    try:
        return child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _environment(hardware: Hardware, workers: int) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    environment = {
        # Only the data loaders multiply matrices with numpy; its threads would take cores from the network.
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
        **os.environ,
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",  # mmengine's own loading would run code of a file
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    cores = os.cpu_count() or 1
    if not hardware.gpus:  # waiting for a core slows a small network down more than having one less
        cores -= hardware.processes * workers
    if hardware.processes > 1 or not hardware.gpus:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // hardware.processes)))
    return environment
