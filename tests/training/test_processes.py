"""A training ends when one of its processes stalls or dies, and leaves none behind."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from lib.recipes.config_file import write_config
from lib.run import Run
from lib.training import processes
from lib.training.config import build_config
from lib.training.hardware import Hardware
from lib.training.launcher import launch
from tests.builders import SMALL

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture()
def hurried(monkeypatch):
    for name, seconds in (("_INTERVAL_S", 0.05), ("STOPPED_S", 0.2), ("IDLE_S", 0.4)):
        monkeypatch.setattr(processes, name, seconds)


def started(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def watch(child: subprocess.Popen, seconds: float) -> list[str]:
    with processes.watched(child.pid) as reasons:
        end = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    child.kill()
    child.wait()
    return reasons


def test_processes_that_do_nothing_are_ended(hurried):
    child = started("import subprocess; subprocess.run(['sleep', '60'])")
    assert watch(child, 10) == ["its processes did nothing for 0.4 seconds"]
    assert child.returncode == -signal.SIGKILL


def test_a_busy_process_is_left_alone(hurried):
    assert watch(started("while True: pass"), 1.5) == []


def test_a_stopped_process_beside_a_busy_one_ends_both(hurried):
    child = started("import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)\nwhile True: pass")
    sleeper = int(child.stdout.readline())
    os.kill(sleeper, signal.SIGSTOP)
    assert watch(child, 10) == [f"process {sleeper} was stopped by a signal for 0.2 seconds"]
    assert not alive(sleeper)


def alive(pid: int) -> bool:
    found = processes.descendants(pid)
    return os.path.exists(f"/proc/{pid}") and "Z" not in open(f"/proc/{pid}/stat").read().split()[2] and bool(found)


def test_a_process_ends_with_the_one_that_started_it():
    code = "from lib.training.processes import die_with_parent; import subprocess; "
    code += "print(subprocess.Popen(['sleep', '60'], preexec_fn=die_with_parent).pid, flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 5
    while alive(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(child)


# Real trainings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number", "processes_", "message"),
    [
        ("loader", signal.SIGKILL, 1, "DataLoader worker .* is killed by signal: Killed"),
        ("loader", signal.SIGSTOP, 1, "the training stalled: process .* was stopped"),
        ("rank", signal.SIGKILL, 2, "SIGKILL"),
        ("rank", signal.SIGSTOP, 2, "the training stalled: process .* was stopped"),
        ("launcher", signal.SIGKILL, 2, "SIGKILL"),
    ],
)
def test_a_training_ends_with_its_processes(victim, number, processes_, message, augmented, tmp_path):
    run, hardware = Run(tmp_path / "run"), Hardware(processes_)
    shutil.copytree(augmented, run.folder)
    options = {**SMALL, "num_workers": 1, "val_interval": 1000}
    cfg = build_config(
        "demo", run.augmented, batch_size=2, max_iters=1000, options=options, hardware=hardware, work_dir=run.train
    )
    write_config(cfg, run.config)
    struck: list[tuple[float, list[int]]] = []

    def strike() -> None:
        while not (run.log.exists() and "Checkpoints will be saved" in run.log.read_text()):
            time.sleep(0.2)
        time.sleep(1)
        tree = [pid for pid in processes.descendants(os.getpid()) if str(run.config) in command(pid)]
        root, *others = tree
        ranks = [root] if processes_ == 1 else [pid for pid in others if parent(pid) == root]
        loaders = [pid for pid in others if pid not in ranks]
        struck.append((time.monotonic(), tree))
        os.kill({"launcher": [root], "rank": ranks, "loader": loaders}[victim][-1], number)

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    with pytest.raises(RuntimeError, match=message):
        launch(run, hardware, 1000, 1)
    (begin, tree) = struck[0]
    assert time.monotonic() - begin < 60
    time.sleep(0.5)
    assert not any(map(alive, tree))


def parent(pid: int) -> int:
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])


def command(pid: int) -> str:
    try:
        return open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return ""
