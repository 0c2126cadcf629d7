"""Run the notebooks headless, in order, into one run folder: the command line of the project.

``python -m lib.pipeline --data DIR --out DIR`` does what a person does in JupyterLab, by papermill: the
executed notebooks, pictures and all, land in ``OUT/notebooks``.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from lib import recipes
from lib.errors import InputError
from lib.files import whole_file
from lib.run import Run, finished

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
STAGES = {"augment": "01_augment", "train": "02_train", "infer": "03_infer", "submit": "04_submit"}
_FILES = {"cameras_file", "checkpoint", "load_from", "recipe"}
"""Parameters that may name files."""
_STARTS_WITH = {"recipe", "batch_size", "seed", "processes", "amp", "options"}
"""Parameters that a start on the plain source shares with what follows it."""
_KINDS = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    list: (list, "a list"),
    str: (str, "a word"),
}
_ANY = {"amp", "scales"}
"""Parameters that take words as well."""


class NotebookError(RuntimeError):
    """A cell failed; the message names the notebook, the cell and the error."""


def run(
    data: str | Path,
    out: str | Path,
    *,
    first: str = "augment",
    last: str = "submit",
    parameters: dict | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Execute the notebooks from stage ``first`` to stage ``last``.

    Args:
        data: data set in the competition's layout.
        out: run folder.
        first, last: keys of :data:`STAGES`.
        parameters: for the ``parameters`` cells; each goes to every notebook that has it.
        resume: skip the stages that an earlier call finished with the same parameters.
        overwrite: let the stages replace results made with other parameters.

    Returns:
        The run folder.

    Raises:
        InputError: a parameter that no notebook has, or a recipe that is not there.
        NotebookError: a cell failed; later stages were not started.
    """
    names = list(STAGES)
    if names.index(first) > names.index(last):
        raise InputError(f"--from {first} comes after --to {last} (order: {', '.join(names)})")
    chosen = names[names.index(first) : names.index(last) + 1]
    data, out = Path(data).resolve(), Path(out).resolve()
    wanted = {"data": str(data), "out": str(out), **{k: _absolute(k, v) for k, v in (parameters or {}).items()}}
    known = {stage: _parameters(NOTEBOOKS / f"{STAGES[stage]}.ipynb") for stage in STAGES}
    if unknown := set(parameters or ()) - set().union(*known.values()):
        there = ", ".join(sorted(set().union(*known.values()) - {"data", "out", "overwrite"}))
        raise InputError(f"parameter {sorted(unknown)[0]!r} is in none of the notebooks (there are: {there})")
    for defaults in known.values():
        _check_kinds(defaults, parameters or {})
    if "recipe" in wanted and "train" in chosen:  # not only after an hour of 01_augment
        recipes.check(wanted["recipe"])
    for number, stage in enumerate(chosen, 1):
        given = {k: v for k, v in wanted.items() if k in known[stage]}
        target = out / "notebooks" / f"{STAGES[stage]}.ipynb"
        title = f"[{number}/{len(chosen)}] {STAGES[stage]}"
        if resume and finished(out, stage) and _executed_with(target) == given:
            print(f"{title}: finished before, skipped", flush=True)
            _beside(target).unlink(missing_ok=True)
            continue
        resume = False  # what follows a stage that ran again must run again
        forced = {"overwrite": True} if overwrite and "overwrite" in known[stage] else {}
        print(f"{title} ...", flush=True)
        start = time.perf_counter()
        _execute(NOTEBOOKS / target.name, target, given | forced, lambda stage=stage: finished(out, stage) is not None)
        print(f"{title}: {time.perf_counter() - start:.0f} s, see {target}", flush=True)
    return out


def start(
    data: str | Path, out: str | Path, iters: int, parameters: dict | None = None, overwrite: bool = False
) -> Path:
    """Train on the source as it is, before anything is bent: 01 and 02 in the run folder ``out``.

    Bent images are harder to learn from at first. A finished start is taken as it is.

    Args:
        iters: length of this training.
        data, parameters, overwrite: see :func:`run`; what is said of bending, and of what comes later, is left out.

    Returns:
        The best checkpoint, for ``load_from``.
    """
    from lib.training import self_training

    # What follows is looked at now, not after the start.
    self_training.check((parameters or {}).get("options") or {}, bool((parameters or {}).get("self_training")))
    shared = {name: value for name, value in (parameters or {}).items() if name in _STARTS_WITH}
    if options := shared.get("options"):
        shared["options"] = {k: v for k, v in options.items() if not str(k).startswith("self_training.")}
    shared |= {"augment": False, "max_iters": iters}
    run(data, out, last="train", parameters=shared, resume=not overwrite, overwrite=overwrite)
    return Run(out).best_checkpoint()


def _absolute(name: str, value):
    """Files that a parameter names, seen from here: the notebooks run in their own folder."""
    if name not in _FILES:
        return value
    if isinstance(value, list):
        return [_absolute(name, one) for one in value]
    if isinstance(value, dict):
        return {key: _absolute(name, one) for key, one in value.items()}
    return str(Path(value).resolve()) if isinstance(value, str) and Path(value).is_file() else value


def _parameters(notebook: Path) -> dict:
    """Names and values that the notebook's ``parameters`` cell sets."""
    import papermill

    return {
        name: ast.literal_eval(found["default"]) for name, found in papermill.inspect_notebook(str(notebook)).items()
    }


def _check_kinds(defaults: dict, given: dict) -> None:
    """Raise InputError where a value is not of its default's kind, as far as the default has one."""
    for name in given.keys() & defaults.keys() - _ANY:
        default, value = defaults[name], given[name]
        kind = next((kind for kind in _KINDS if type(default) is kind), None)
        if kind and (not isinstance(value, _KINDS[kind][0]) or (isinstance(value, bool) and kind is not bool)):
            raise InputError(f"{name}: {value!r} (expected: {_KINDS[kind][1]}, as {default!r})")


def _executed_with(notebook: Path) -> dict | None:
    """The parameters of a completed execution (less ``overwrite``); None if there is none."""
    import nbformat

    if not notebook.exists():
        return None
    record = nbformat.read(notebook, as_version=4).metadata.get("papermill", {})
    if record.get("exception") or not record.get("end_time"):
        return None
    return {k: v for k, v in record["parameters"].items() if k != "overwrite"}


def _execute(source: Path, target: Path, parameters: dict, stands: Callable[[], bool]) -> None:
    """Execute into ``target``, or where that fails and a former result ``stands``, beside it."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    failure, place = None, _beside(target)
    with whole_file(place) as temporary:
        try:
            papermill.execute_notebook(
                str(source),
                str(temporary),
                parameters,
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                extra_arguments=["--IPKernelApp.log_level=50"],  # or a kernel that is told to end says so as an error
                coalesce_streams=True,  # of a progress bar, keep its last state
            )
        except PapermillExecutionError as error:
            failure = error
    if failure is None or not stands():
        place = place.replace(target)
    if failure is not None:
        message = _plain(failure.evalue)
        if failure.ename != InputError.__name__:
            message = f"{failure.ename}: {message}"
        raise NotebookError(
            f"{source.name}, cell {failure.exec_count}: {message}\nThe notebook as far as it ran: {place}"
        )


def _beside(target: Path) -> Path:
    """Where a notebook goes that was refused or failed while a former result stands."""
    return target.with_suffix(".failed.ipynb")


def _plain(text: str) -> str:
    """Without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(text))


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lib.pipeline",
        description="Labelled images of an ordinary camera + unlabelled images of a fisheye camera -> submission.csv",
    )
    parser.add_argument("--data", required=True, help="data set in the competition's layout")
    parser.add_argument("--out", required=True, help="run folder, made when missing")
    parser.add_argument("--recipe", help="what to train; see lib/recipes/configs (default: demo)")
    parser.add_argument("--from", dest="first", choices=STAGES, default="augment", help="first stage")
    parser.add_argument("--to", dest="last", choices=STAGES, default="submit", help="last stage")
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter of the notebooks' first cells; VALUE is YAML, e.g. -p max_iters 2000",
    )
    parser.add_argument(
        "--start",
        type=int,
        default=0,
        metavar="ITERS",
        help="first train ITERS iterations on the source as it is, in OUT/start, and go on from there",
    )
    parser.add_argument("--resume", action="store_true", help="skip finished stages")
    parser.add_argument("--overwrite", action="store_true", help="replace results made with other parameters")
    return parser.parse_args(arguments)


def _value(name: str, text: str):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(
            f"-p {name} {text!r} is not YAML (expected: a number, a word, [a, list] or {{a: mapping}})"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code. Bad input ends in one sentence on stderr."""
    args = _arguments(arguments)
    try:
        parameters = {name: _value(name, text) for name, text in args.parameters}
        if args.recipe:
            parameters["recipe"] = args.recipe
        if args.start and parameters.get("load_from"):
            raise InputError("--start and load_from both say what the training starts from (expected: one of them)")
        if args.start < 0:
            raise InputError(f"--start {args.start} (expected: a number of iterations, from 1)")
        trains = args.first in ("augment", "train") and args.last != "augment"
        if args.start and not trains:
            raise InputError(f"--start comes before training, and --from {args.first} --to {args.last} does not train")
        begun = Path(args.out) / "start"
        if args.start:
            parameters["load_from"] = str(start(args.data, begun, args.start, parameters, args.overwrite))
        elif trains and not args.overwrite and not parameters.get("load_from") and (record := finished(begun, "train")):
            iters = record["parameters"]["max_iters"]
            raise InputError(
                f"{args.out} was begun with --start {iters} (expected: the same again, another --out, or --overwrite)"
            )
        run(
            args.data,
            args.out,
            first=args.first,
            last=args.last,
            parameters=parameters,
            resume=args.resume,
            overwrite=args.overwrite,
        )
    except (InputError, NotebookError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
