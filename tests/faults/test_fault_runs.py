"""The runs of ``make faults``: they continue, they see a fault where there is one, and they keep a failing seed."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.builders import ROOT
from tests.faults import inputs, memory, operator_runs, sanitizers
from tests.faults.record import Record


def test_a_record_continues_until_the_sources_change(tmp_path):
    record = Record(tmp_path / "part.json", stamp="1")
    record.add("a", count=3)
    record.add("b", "wrong")
    again = Record(tmp_path / "part.json", stamp="1")
    assert list(again.todo("abc")) == ["c"] and again.count == 4 and again.faults() == {"b": "wrong"}
    again.finish("abc")
    assert not again.finished
    again.finish("ab")
    assert Record(tmp_path / "part.json", stamp="1").finished
    assert not Record(tmp_path / "part.json", stamp="2").items
    assert not list(Record(tmp_path / "part.json", until=0.0, stamp="1").todo("abc"))


def test_a_crash_and_a_wrong_acceptance_are_faults_with_their_seed(tmp_path, monkeypatch):
    def one(seed, folder):
        assert seed != 7, "accepted"
        return 1 // (seed - 9) > 0

    monkeypatch.setattr(inputs.importlib, "import_module", lambda name: SimpleNamespace(one=one))
    record = Record(tmp_path / "part.json")
    inputs.run_fuzzer(record, tmp_path / "scratch", "topic", 1e-9)
    (fault,) = record.faults().values()
    assert "seed 7: AssertionError: accepted" in fault and "seed 9: ZeroDivisionError" in fault
    assert record.finished and record.count == 50 and record.items["seeds 0-49"]["accepted"] == 1


def test_cases_of_all_topics_are_found():
    assert all(": " in name for name in inputs.cases(False)) and len(inputs.cases(True)) >= 6


def test_random_calls_of_the_operator_run():
    import ops_dcnv3  # noqa: F401  declares it

    for seed in range(20):
        operator_runs.one(seed, "cpu")


@pytest.mark.slow
def test_a_data_set_is_multiplied_by_links(sample, tmp_path):
    from lib.dataset import layout

    data = memory.multiply(sample, tmp_path / "many", 30)
    layout.check(data, tuple(layout.SPLITS))
    assert len(layout.read_split(data, "test")) == 30 and len(layout.read_split(data, "val_source")) == 2


@pytest.mark.slow
def test_a_killed_stage_is_compared_with_an_undisturbed_one(tmp_path):
    """In a process of its own, which forks: the one of the tests has threads."""
    code = f"""
from pathlib import Path
from tests.faults.kills import killed
from tests.faults.stage_kills import Place
if __name__ == "__main__":
    place = Place("submit", Path({str(tmp_path)!r}) / "place")
    assert killed(place.run, place.events // 2) and place.resume() == ""
    name = next(name for name in place.right if name.startswith("masks/"))
    (place.out / name).unlink()
    assert "masks" in place.resume(), "a difference is not seen"
"""
    (tmp_path / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert not done.returncode, done.stderr[-2000:]


@pytest.mark.slow
def test_the_sanitizers_report_a_fault(tmp_path):
    source, library = tmp_path / "fault.cpp", tmp_path / "fault.so"
    source.write_text("""extern "C" int fault(int i, int n) {
        int* a = new int[4]();
        int value = a[i] + (1 << n);
        delete[] a;
        return value;
    }""")
    environment = sanitizers.environment()
    command = [*environment["CXX"].split(), "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    for arguments, expected in (((4, 1), "AddressSanitizer"), ((0, 40), "runtime error"), ((3, 1), "")):
        code = f"import ctypes; ctypes.CDLL({str(library)!r}).fault{arguments}"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert expected in done.stderr and bool(sanitizers.REPORT.findall(done.stderr)) == bool(expected), done.stderr
