"""``make faults``: kill, change and feed in what may go wrong, and print what was noticed.

Parts run in two processes. Each finished item is written to ``build/faults`` at once; the next start continues there,
unless a source changed. Prints a table and writes ``benchmarks/results/faults.json`` when all parts ran.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from lib.files import digest, digest_of, whole_file
from tests.faults import inputs, kills_of_overwrite, memory, sanitizers, stage_kills
from tests.faults.record import Record

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
_SOURCES = ("lib/**/*.py", "ops_dcnv3/**/*.py", "ops_dcnv3/csrc/*", "tests/faults/*.py")
_SHOWN = 10  # faults per part that the results keep
_GRACE = 90  # seconds beyond the limit for the item that is being worked on


@dataclass(frozen=True)
class Part:
    """A part of the run: a row of the table.

    Attributes:
        work: does the items that a record lacks, in a scratch folder.
        least: cases that the part has to reach.
        unit: what a case is.
    """

    title: str
    work: Callable[[Record, Path], None]
    least: int
    unit: str


def parts(fuzz_minutes: float) -> dict[str, Part]:
    """Return all parts by name, long ones first."""
    found = {
        f"kills-{stage}": Part(f"kills of {stage}, resumed", partial(stage_kills.run, stage=stage), 150, "kills")
        for stage in ("train", "self-training", "augment", "infer", "submit")
    }
    found["memory"] = Part("peak memory, 200 → 2,000 images", memory.run, 2, "stages")
    for topic in inputs.fuzzers():
        work = partial(inputs.run_fuzzer, topic=topic, seconds=60 * fuzz_minutes)
        found[f"fuzz-{topic}"] = Part(f"random inputs: {topic.replace('_', ' ')}", work, 1, "inputs")
    found |= {
        "sanitizers": Part("operator under ASan and UBSan", sanitizers.run, sanitizers.CASES, "calls"),
        **{
            f"overwrite-{stage}": Part(
                f"kills of {stage} --overwrite, continued", partial(kills_of_overwrite.run, stage=stage), 40, "kills"
            )
            for stage in kills_of_overwrite.STAGES
        },
        "submission": Part("mutated submissions", _submission, 150, "kinds"),
        "cases": Part("bad inputs", inputs.run_cases, 300, "inputs"),
        "changes": Part("changed inputs", partial(inputs.run_cases, changes=True), 6, "changes"),
    }
    return found


def _submission(record: Record, folder: Path) -> None:
    from tests.faults import submission_mutations

    for name in record.todo(["all"]):
        figures = submission_mutations.run(folder)
        faults = [f"{kind}: {reason}" for kind, reason in figures["missed"].items()]
        record.add(name, "; ".join(faults), figures["tried"])
    record.finish(["all"])


def main() -> int:
    """Run the parts, or the one of ``--part`` in this process; return 1 for a fault or an unfinished part."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=40, help="limit of this start (%(default)s)")
    parser.add_argument("--fuzz-minutes", type=float, default=5, help="time of each fuzzer (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run, such as kills-train or fuzz-csv")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "faults", help="records (%(default)s)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = parts(given.fuzz_minutes)
    if unknown := set(given.only or ()) - set(chosen):
        parser.error(f"no part {sorted(unknown)} (there are: {', '.join(chosen)})")
    stamp = digest_of({str(p): digest(p) for glob in _SOURCES for p in sorted(ROOT.glob(glob))})

    def record(name: str, until: float = 0.0) -> Record:
        return Record(given.folder / f"{name}.json", until, stamp)

    if given.part:
        with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
            chosen[given.part].work(record(given.part, given.until), Path(scratch) / "part")
        return 0
    start = time.time()
    names = [name for name in given.only or chosen if not record(name).finished]
    codes = _run_in_processes(names, given, start + 60 * given.minutes)
    rows = {name: _row(part, record(name), codes.get(name, 0)) for name, part in chosen.items()}
    print(_table(rows))
    if all(row["finished"] for row in rows.values()):
        _write(rows, time.time() - start)
    wanted = [rows[name] for name in given.only or rows]
    return int(not all(row["finished"] and not row["faults"] for row in wanted))


def _run_in_processes(names: list[str], given: argparse.Namespace, until: float) -> dict[str, int]:
    """Run each part in a process, two at a time; return the exit codes. Output goes to files beside the records."""
    waiting, running, codes = list(names), dict[str, subprocess.Popen](), dict[str, int]()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        while running or (waiting and time.time() < until):
            while waiting and len(running) < 2 and time.time() < until:
                name = waiting.pop(0)
                command = [sys.executable, "-m", "tests.faults", "--part", name, "--until", str(until)]
                command += ["--fuzz-minutes", str(given.fuzz_minutes), "--folder", str(given.folder)]
                with (given.folder / f"{name}.log").open("w") as log:
                    running[name] = subprocess.Popen(
                        command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
                    )
                print(f"{name} …", file=sys.stderr, flush=True)
            time.sleep(0.5)
            for name, process in list(running.items()):
                if process.poll() is not None:
                    codes[name] = running.pop(name).returncode
                elif time.time() > until + _GRACE:  # its item is done again by the next start
                    os.killpg(process.pid, signal.SIGKILL)  # with what it started
                    running.pop(name).wait()
    finally:  # Ctrl-C does not reach other sessions
        for process in running.values():
            os.killpg(process.pid, signal.SIGKILL)
    return codes


def _row(part: Part, record: Record, code: int) -> dict:
    """Return a part's figures."""
    faults = record.faults()
    if code:
        faults["the part itself"] = f"exit code {code}, see {record.path.with_suffix('.log')}"
    items = record.items.values()
    notes = [item["note"] for item in items if "note" in item]
    if accepted := sum(item.get("accepted", 0) for item in items):
        notes.append(f"{accepted} accepted rightly")
    return {
        "title": part.title,
        "count": record.count,
        "unit": part.unit,
        "least": part.least,
        "finished": record.finished and record.count >= part.least,
        "faults": len(faults),
        "first faults": dict(list(faults.items())[:_SHOWN]),
        "notes": notes,
    }


def _table(rows: dict[str, dict]) -> str:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    tables = importlib.import_module("tables")
    lines = [tables.fault_rows(rows.values())]
    for name, row in rows.items():
        lines += [f"{name}: {item}: {fault}" for item, fault in row["first faults"].items()]
    if unfinished := [name for name, row in rows.items() if not row["finished"]]:
        lines.append(f"Unfinished: {', '.join(unfinished)}. `make faults` continues.")
    return "\n".join(lines)


def _write(rows: dict[str, dict], seconds: float) -> None:
    from lib.run import environment

    content = {"date": str(date.today()), "minutes": round(seconds / 60, 1)} | environment() | {"parts": rows}
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
