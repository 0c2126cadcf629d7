"""Execution of the notebooks by papermill, in order and into one run folder, as a person does it in JupyterLab."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lib
from lib import files, preflight
from lib.errors import InputError
from lib.estimates import Step
from lib.execution import Interrupted, NotebookError, execute
from lib.files import whole_file
from lib.options import Options
from lib.run import Run
from lib.stages.augment import AugmentOptions
from lib.stages.infer import InferOptions
from lib.stages.submit import SubmitOptions
from lib.stages.train import TrainOptions
from lib.training.hardware import Hardware


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline."""

    notebook: str
    options: type[Options]


STAGES = {
    "augment": Stage("01_augment.ipynb", AugmentOptions),
    "train": Stage("02_train.ipynb", TrainOptions),
    "infer": Stage("03_infer.ipynb", InferOptions),
    "submit": Stage("04_submit.ipynb", SubmitOptions),
}

_FILES = ("cameras_file", "checkpoint", "load_from", "recipe")  # options that may name files
_LENGTHS = ("max_iters", "warmup_iters", "val_interval")  # entries of a training of another length
_WARM_START = ("recipe", "batch_size", "seed", "processes", "amp", "options")  # options that a warm start shares


def notebooks_folder() -> Path:
    """Return the folder of the notebooks: beside ``lib`` in a checkout, inside it where a wheel was installed."""
    package = Path(lib.__file__).parent
    inside = package / "notebooks"
    return inside if inside.is_dir() else package.parent / "notebooks"


def run_notebooks(
    data: str | Path,
    out: str | Path,
    *,
    first: str = "augment",
    last: str = "submit",
    parameters: Mapping[str, Any] | None = None,
    warm_start: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    dry_run: bool = False,
) -> Run:
    """Execute the notebooks from stage ``first`` to stage ``last``, after a preflight that lists all faults.

    Args:
        parameters: options by name; each goes to every stage that has it.
        warm_start: iterations of a training on the resized source, in ``out/warm_start``, that the training
            starts from; 0: none.
        resume: skip the stages that are done, and replace the results of those whose inputs changed.
        overwrite: replace results of other options or inputs.
        restart: begin anew, whatever results there are.
        dry_run: check everything, print what would be done, and write nothing.

    Raises:
        InputError: one or several faults that can be seen before any work; nothing was touched.
        NotebookError: a cell failed; later stages were not started.
        Interrupted: by Ctrl-C; what was finished is kept.
    """
    names, run = list(STAGES), Run(Path(out).resolve())
    if names.index(first) > names.index(last):
        raise InputError(f"--from {first} comes after --to {last} (order: {', '.join(names)})")
    chosen = names[names.index(first) : names.index(last) + 1]
    given = {name: _absolute(name, value) for name, value in (parameters or {}).items()}
    given |= {"data": str(Path(data).resolve()), "out": str(run.folder)}
    _check(given)
    _check_warm_start(run, chosen, given, warm_start, overwrite or restart)
    made, resume = ["load_from"] if warm_start else [], resume and not restart
    begun = Run(run.warm_start).best_checkpoint() if warm_start and not (overwrite or restart) else None
    if begun:
        given["load_from"] = str(begun)
    with files.discarded() if dry_run else nullcontext():
        steps, reports = _preflight(run, chosen, given, resume, overwrite or restart, made)
    if dry_run:
        print("\n".join([*reports, _plan(run, chosen, steps, warm_start)]), flush=True)
        return run
    with run.locked("pipeline"):
        if warm_start:
            given["load_from"] = str(_warm_start(run, given, warm_start, overwrite, restart))
        _run_stages(run, chosen, given, resume, overwrite, restart, made)
    return run


_SOURCES = (
    "Times are those of comparable runs beside this run, in proportion to the work. Sizes are upper estimates from "
    "the numbers of images, pixels and weights."
)


def _plan(run: Run, chosen: list[str], steps: list[Step], warm_start: int) -> str:
    """Return in words what a run would do."""
    if not steps:
        return f"{run.folder}: nothing is left to do"
    planned = {step.stage for step in steps}
    lines = [f"{name}: done before" for name in chosen if name not in planned]
    if warm_start:
        lines.append(f"warm start: {warm_start} iterations on the resized source; the figures below leave it out")
    return "\n".join([f"{run.folder}:", *lines, *map(str, steps), _SOURCES])


def _preflight(
    run: Run, chosen: list[str], given: Mapping[str, Any], resume: bool, replace: bool, made: list[str]
) -> tuple[list[Step], list[str]]:
    """Check all that the stages need that will run; see :func:`lib.preflight.check`."""
    from ops_dcnv3 import kernels  # here, because torch takes seconds to import

    planned: dict[str, Options] = {}
    for name in chosen:
        options = STAGES[name].options.collect(given)
        if planned or not resume or run.entry(name) is None or not _state(run, name, options, made)[0]:
            planned[name] = options
    for note in preflight.stale(run, given["data"], planned):
        print(f"Note: {note}", flush=True)
    if not planned:
        return [], []
    found = preflight.check(run, given["data"], planned, replace)
    device = "cuda" if Hardware.detect().gpus else "cpu"
    networks = kernels.shortcoming(device) if planned.keys() & {"train", "infer"} else ""
    for note in filter(None, [*preflight.other_versions(run, planned), networks]):
        print(f"Note: {note}", flush=True)
    return found


def _run_stages(
    run: Run,
    stages: list[str],
    given: Mapping[str, Any],
    resume: bool,
    overwrite: bool,
    restart: bool,
    made: list[str],
) -> None:
    """Execute the stages; ``made`` names the options whose values come from earlier work."""
    for number, name in enumerate(stages, 1):
        stage, title = STAGES[name], f"[{number}/{len(stages)}] {Path(STAGES[name].notebook).stem}"
        target = run.notebooks / stage.notebook
        done, changes = _state(run, name, stage.options.collect(given), made) if resume else (False, "")
        if done:
            print(f"{title}: done before, skipped", flush=True)
            _failed(target).unlink(missing_ok=True)
            continue
        print(f"{title} ..." + (f" again: {changes}" if changes else ""), flush=True)
        start = time.perf_counter()
        values = {key: value for key, value in given.items() if key in stage.options.names()}
        replaced = {"overwrite": overwrite or bool(changes), "restart": restart}
        values |= {key: True for key, value in replaced.items() if value and key in stage.options.names()}
        _execute(notebooks_folder() / stage.notebook, target, values, run, name)
        print(f"{title}: {time.perf_counter() - start:.0f} s, see {target}", flush=True)


def _state(run: Run, name: str, options: Options, made: list[str]) -> tuple[bool, str]:
    """Return whether a stage is done, and which inputs changed; neither where one is missing: the stage says which."""
    try:
        resolved = options.resolved()
        done = run.is_done(name, resolved)
        return done, "" if done else run.changes(name, resolved, [*made, *options.chosen()])
    except InputError:
        return False, ""


def _check(given: Mapping[str, Any]) -> None:
    """Raise InputError for unknown options and values that are not allowed, before anything is touched."""
    known = {name for stage in STAGES.values() for name in stage.options.names()}
    if unknown := sorted(set(given) - known):
        listed = ", ".join(sorted(known - {"data", "out", "overwrite", "restart"}))
        close = "".join(f"did you mean {name}? " for name in get_close_matches(unknown[0], known, 1))
        raise InputError(f"option {unknown[0]!r} is in none of the notebooks ({close}There are: {listed})")
    faults: list[str] = []
    for stage in STAGES.values():
        try:
            stage.options.collect(given)
        except InputError as error:
            faults += str(error).splitlines()
    if faults:
        raise InputError("\n".join(dict.fromkeys(faults)))


def _check_warm_start(run: Run, chosen: list[str], given: Mapping[str, Any], iters: int, overwrite: bool) -> None:
    if iters < 0:
        raise InputError(f"--warm-start {iters} (expected: a number of iterations, from 1)")
    if iters and given.get("load_from"):
        raise InputError("--warm-start and load_from both say what the training starts from (expected: one of them)")
    if iters and "train" not in chosen:
        raise InputError(f"--warm-start precedes training, and {' to '.join(chosen)} does not train")
    entry = Run(run.warm_start).entry("train")
    if entry and "train" in chosen and not (iters or overwrite or given.get("load_from")):
        raise InputError(
            f"{run.folder} was begun with --warm-start {entry['parameters']['max_iters']} (expected: the same again, "
            "another --out, or --overwrite)"
        )


def _warm_start(run: Run, given: Mapping[str, Any], iters: int, overwrite: bool, restart: bool) -> Path | None:
    """Train on the resized source, which is easier to learn from at first; return the best checkpoint."""
    shared: dict[str, Any] = {name: given[name] for name in _WARM_START if name in given}
    if options := shared.get("options"):
        own = {name for name in options if str(name) in _LENGTHS or str(name).startswith("self_training.")}
        shared["options"] = {name: value for name, value in options.items() if name not in own}
    shared |= {"augment": False, "max_iters": iters}
    done = run_notebooks(
        given["data"],
        run.warm_start,
        last="train",
        parameters=shared,
        resume=True,
        overwrite=overwrite,
        restart=restart,
    )
    return done.best_checkpoint()


def _absolute(name: str, value: Any) -> Any:
    """Return files by their absolute paths: the notebooks run in their own folder."""
    if name not in _FILES:
        return value
    if isinstance(value, list):
        return [_absolute(name, entry) for entry in value]
    if isinstance(value, dict):
        return {key: _absolute(name, entry) for key, entry in value.items()}
    return str(Path(value).resolve()) if isinstance(value, str) and Path(value).is_file() else value


def _execute(source: Path, target: Path, values: dict[str, Any], run: Run, stage: str) -> None:
    """Execute into ``target``; a failed notebook goes beside it where a former result stands."""
    failure, place = None, _failed(target)
    with whole_file(place) as temporary:
        try:
            execute(source, temporary, values, {"OPS_DCNV3_WARNED": "1"})  # the preflight has said it
        except Interrupted:
            raise Interrupted(f"{source.stem} was interrupted. {_kept(run, stage)}") from None
        except NotebookError as error:
            failure = error
            if not temporary.exists():
                raise
    if failure is None or run.entry(stage) is None:
        place = place.replace(target)
    if failure is not None:
        raise NotebookError(f"{failure}\nThe notebook as far as it ran: {place}")


def _kept(run: Run, stage: str) -> str:
    checkpoint = run.last_checkpoint() if stage == "train" else None
    what = {
        "augment": "Images that were written are kept",
        "train": f"{checkpoint.name} is kept" if checkpoint else "There was no checkpoint yet",
        "infer": "Masks that were written are kept",
        "submit": "All masks are kept",
    }
    return f"{what[stage]}; the same command with --resume continues."


def _failed(target: Path) -> Path:
    return target.with_suffix(".failed.ipynb")
