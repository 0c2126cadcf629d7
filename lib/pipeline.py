"""Execution of the notebooks by papermill, in order and into one run folder, as a person does it in JupyterLab."""

import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lib
from lib import recipes
from lib.errors import InputError
from lib.files import whole_file
from lib.options import Options
from lib.run import Run
from lib.stages.augment import AugmentOptions
from lib.stages.infer import InferOptions
from lib.stages.submit import SubmitOptions
from lib.stages.train import TrainOptions


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
_WARM_START = ("recipe", "batch_size", "seed", "processes", "amp", "options")  # options that a warm start shares


class NotebookError(RuntimeError):
    """Failure of a cell; the message names the notebook, the cell and the error."""


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
) -> Run:
    """Execute the notebooks from stage ``first`` to stage ``last``.

    Args:
        parameters: options by name; each goes to every stage that has it.
        warm_start: iterations of a training on the resized source, in ``out/warm_start``, that the training
            starts from; 0: none.
        resume: skip the stages that are done, and replace the results of those whose inputs changed.
        overwrite: replace results of other options or inputs.
        restart: begin anew, whatever results there are.

    Raises:
        InputError: an option that no stage has, a value that is not allowed, or an unknown recipe.
        NotebookError: a cell failed; later stages were not started.
    """
    names, run = list(STAGES), Run(Path(out).resolve())
    if names.index(first) > names.index(last):
        raise InputError(f"--from {first} comes after --to {last} (order: {', '.join(names)})")
    chosen = names[names.index(first) : names.index(last) + 1]
    given = {name: _absolute(name, value) for name, value in (parameters or {}).items()}
    given |= {"data": str(Path(data).resolve()), "out": str(run.folder)}
    _check(given, chosen)
    _check_warm_start(run, chosen, given, warm_start, overwrite or restart)
    with run.locked("pipeline"):
        if warm_start:
            given["load_from"] = str(_warm_start(run, given, warm_start, overwrite, restart))
        _run_stages(run, chosen, given, resume and not restart, overwrite, restart)
    return run


def _run_stages(
    run: Run, chosen: list[str], given: Mapping[str, Any], resume: bool, overwrite: bool, restart: bool
) -> None:
    for number, name in enumerate(chosen, 1):
        stage, title = STAGES[name], f"[{number}/{len(chosen)}] {Path(STAGES[name].notebook).stem}"
        target = run.notebooks / stage.notebook
        done, changes = _state(run, name, stage.options.collect(given)) if resume else (False, "")
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


def _state(run: Run, name: str, options: Any) -> tuple[bool, str]:
    """Return whether a stage is done, and which inputs changed; neither where one is missing: the stage says which."""
    try:
        options = options.resolved()
        done = run.is_done(name, options)
        return done, "" if done else run.changes(name, options)
    except InputError:
        return False, ""


def _check(given: Mapping[str, Any], chosen: list[str]) -> None:
    """Raise InputError for unknown options and values that are not allowed, before anything is touched."""
    known = {name for stage in STAGES.values() for name in stage.options.names()}
    if unknown := sorted(set(given) - known):
        listed = ", ".join(sorted(known - {"data", "out", "overwrite", "restart"}))
        close = "".join(f"did you mean {name}? " for name in get_close_matches(unknown[0], known, 1))
        raise InputError(f"option {unknown[0]!r} is in none of the notebooks ({close}There are: {listed})")
    for stage in STAGES.values():
        stage.options.collect(given)
    if "recipe" in given and "train" in chosen:
        recipes.check(given["recipe"])


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
        shared["options"] = {k: v for k, v in options.items() if not str(k).startswith("self_training.")}
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
    import papermill
    from papermill.exceptions import PapermillExecutionError

    failure, place = None, _failed(target)
    with whole_file(place) as temporary:
        try:
            papermill.execute_notebook(
                str(source),
                str(temporary),
                values,
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                extra_arguments=["--IPKernelApp.log_level=50"],  # a kernel logs its own shutdown as an error
                coalesce_streams=True,  # keeps the last state of a progress bar only
            )
        except PapermillExecutionError as error:
            failure = error
    if failure is None or run.entry(stage) is None:
        place = place.replace(target)
    if failure is not None:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(failure.evalue))  # without terminal colours
        if failure.ename != InputError.__name__:
            message = f"{failure.ename}: {message}"
        where = f"{source.name}, cell {failure.exec_count}"
        raise NotebookError(f"{where}: {message}\nThe notebook as far as it ran: {place}")


def _failed(target: Path) -> Path:
    return target.with_suffix(".failed.ipynb")
