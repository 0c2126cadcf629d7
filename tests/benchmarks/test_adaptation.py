"""Results that the benchmark of the adaptation's steps computes from its rows."""

import importlib.util
import sys
from pathlib import Path

import pytest

from lib.files import write_yaml

FILE = Path(__file__).parents[2] / "benchmarks" / "adaptation.py"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FILE.parent))  # where a script's own folder is found
    spec = importlib.util.spec_from_file_location("bench_adaptation", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def row(*values):
    return {str(seed): {"test": {"mIoU": value}, "proxy": {"mIoU": value / 2}} for seed, value in enumerate(values)}


def test_the_gap_is_that_of_the_same_seed(bench):
    rows = {"source": row(0.2, 0.1), "fitted": row(0.3, 0.4, 0.5), "oracle": row(0.4, 0.5)}
    assert bench.gap_closed(rows, "fitted") == {"0": 0.5, "1": 0.75}  # seed 2 has no ends
    assert bench.gap_closed(rows, "source") == {"0": 0, "1": 0}
    assert bench.gap_closed({"fitted": row(0.3)}, "fitted") == {}


def test_the_table_gives_mean_and_spread(bench):
    text = bench.adaptation({"source": row(0.2, 0.1), "oracle": row(0.4)})
    assert "| source only | 0.150 (0.100–0.200) | 0.00 | 0.075 (0.050–0.100) | 2 |" in text
    assert "| target's own labels | 0.400 | 1.00 | 0.200 | 1 |" in text
    hidden = {seed: {"proxy": result["proxy"]} for seed, result in row(0.2, 0.1).items()}
    assert "| source only | – | – | 0.075 (0.050–0.100) | 2 |" in bench.adaptation({"source": hidden})


def test_a_finished_row_counts_only_with_the_same_parameters(bench, sample, tmp_path):
    def benchmark(iters):
        made = bench.Benchmark(sample, "demo", iters, 0)
        made.folder = tmp_path
        return made

    out = benchmark(5).out("fitted", 1)
    parameters = benchmark(5)._parameters(bench.ROWS["fitted"])
    write_yaml(out / "result.yaml", {"parameters": parameters, "test": {"mIoU": 0.5}})
    assert benchmark(5).finished("fitted", 1) is None  # its submission is missing
    (out / "submission.csv").touch()
    assert benchmark(5).finished("fitted", 1)["test"] == {"mIoU": 0.5}
    assert benchmark(6).finished("fitted", 1) is None
    assert benchmark(5).finished("fitted", 2) is None


def test_each_step_changes_one_thing(bench):
    """Rows that follow each other differ in one stage's parameters alone."""
    rows = [bench.ROWS[name] for name in ("fitted", "photometric", "size", "self-training", "test-time")]
    for before, after in zip(rows[:-1], rows[1:], strict=True):
        assert (before.augment != after.augment) + (before.train != after.train) + (before.infer != after.infer) == 1
    assert set(bench.ROWS) <= set(bench.TITLES)
    assert [name for name, one in bench.ROWS.items() if one.labels] == ["oracle", "oracle-test-time"]
