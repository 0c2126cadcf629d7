"""The command line: ``fisheye …``, or ``python -m lib.cli …``.

Bad input ends in one sentence on stderr and exit code 1; ``--debug`` shows the traceback instead.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

import lib
from lib.errors import InputError
from lib.options import shown
from lib.run import STAGES
from lib.tools.commands import SIZE, TOOLS

_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)  # PyYAML raises any
_OWN = ("data", "out", "overwrite", "restart")  # options of stages that `fisheye run` has itself


class _Program(click.Group):
    """Group of commands that reports a fault in one sentence."""

    def invoke(self, context: click.Context) -> Any:
        from lib.execution import Interrupted, NotebookError

        try:
            return super().invoke(context)
        except (InputError, NotebookError, OSError, Interrupted, KeyboardInterrupt) as error:
            if context.params.get("debug"):
                raise
            message = str(error)
            if isinstance(error, OSError) and error.strerror:
                message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            if isinstance(error, Interrupted | KeyboardInterrupt):
                raise _Interruption(message or "interrupted") from None
            raise click.ClickException(message) from None


class _Interruption(click.ClickException):
    exit_code = 130  # of a shell's command after Ctrl-C


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lib.__version__, prog_name="fisheye")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Segment the images of a fisheye camera when only an ordinary camera has labels."""


def _parameters(_context: click.Context, _option: click.Parameter, pairs: tuple[tuple[str, str], ...]) -> dict:
    """Read the values of ``-p NAME VALUE`` as YAML."""
    values = {}
    for name, text in pairs:
        if name in _OWN:
            raise click.BadParameter(f"{name} is not set by -p (expected: --{name})")
        try:
            values[name] = yaml.load(text, _Yaml)
        except _NOT_YAML:
            expected = "a number, a word, [a, list] or {a: mapping}"
            raise click.BadParameter(f"{name} {shown(text)} is not YAML (expected: {expected})") from None
    return values


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 that reads 1e-4 as a number, as YAML 1.2 and Python do."""


_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_Yaml.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def _option_rows(stage: str) -> list[tuple[str, str]]:
    """Return name and default (as YAML), then meaning and allowed values, of each option of a stage."""
    from lib.pipeline import STAGES as stages

    kind = stages[stage].options
    rows = [(n, json.dumps(kind.default(n)), kind.sentence(n), kind.expected(n)) for n in kind.names()]
    return [(f"{name} = {default}", f"{sentence} ({expected})") for name, default, sentence, expected in rows]


class _RunCommand(click.Command):
    """Command whose help ends with every option that ``-p`` can set."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        for flag, text in zip(args, args[1:], strict=False):
            if flag == "-p" and (pair := re.fullmatch(r"(\w+)[=:](.*)", text, re.DOTALL)):
                raise click.UsageError(f"-p {shown(text)} (expected: -p {pair[1]} {pair[2]})", context)
        return super().parse_args(context, args)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for stage in STAGES:
            with formatter.section(f"Options for -p, stage {stage}"):
                formatter.write_dl([row for row in _option_rows(stage) if row[0].split()[0] not in _OWN])


@main.command(cls=_RunCommand)
@click.option("--data", required=True, metavar="DIR", help="Data set in the competition's layout.")
@click.option("--out", required=True, metavar="DIR", help="Run folder, created when missing.")
@click.option(
    "--recipe", help="Recipe to train: demo (default), small, internimage_t, a composed name, or the path of a file."
)
@click.option("--from", "first", type=click.Choice(STAGES), default=STAGES[0], show_default=True, help="First stage.")
@click.option("--to", "last", type=click.Choice(STAGES), default=STAGES[-1], show_default=True, help="Last stage.")
@click.option(
    "-p",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    callback=_parameters,
    help="Set an option; VALUE is YAML, as in -p max_iters 2000.",
)
@click.option("--warm-start", type=int, default=0, metavar="ITERS", help="First train on the resized source.")
@click.option("--resume", is_flag=True, help="Skip the stages that are done; redo those whose inputs changed.")
@click.option("--overwrite", is_flag=True, help="Replace results of other options or inputs.")
@click.option("--restart", is_flag=True, help="Begin the chosen stages anew, whatever results there are.")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would run, and touch nothing.")
def run(recipe: str | None, parameters: dict, **given: Any) -> None:
    """Execute the notebooks: from images to a checked submission.csv."""
    from lib.pipeline import run_notebooks

    done = run_notebooks(parameters=parameters | ({"recipe": recipe} if recipe else {}), **given)
    if not given["dry_run"] and given["last"] == STAGES[-1]:
        click.echo(f"{done.submission}: checked against the masks")


@main.command()
@click.argument("stage", type=click.Choice(STAGES), required=False)
def options(stage: str | None) -> None:
    """List the options of one stage, or of all, with default, meaning and allowed values."""
    for name in [stage] if stage else STAGES:
        click.echo(f"{name}\n" + "\n".join(f"  {term}: {text}" for term, text in _option_rows(name)))


@main.command()
@click.option("--iters", type=int, hidden=True, help="Length of the trainings, for tests.")
def demo(iters: int | None) -> None:
    """Run all stages on the built-in sample; print the scores of result and baseline.

    Writes data/sample, outputs/demo and outputs/demo-plain (the baseline) into the current folder.
    """
    from lib.pipeline import run_notebooks
    from lib.sample import write

    data = write("data/sample")
    runs = {"outputs/demo": {}, "outputs/demo-plain": {"augment": False}}
    for out, parameters in runs.items():
        length = {"max_iters": iters} if iters else {}
        run_notebooks(data, out, parameters={"recipe": "demo"} | parameters | length, resume=True)
    click.echo("\nIoU on the sample's withheld test labels: with augmentation (demo), without (demo-plain)")
    _print_scores([f"{out}/submission.csv" for out in runs], str(data / "withheld" / "test_gt"), (960, 540))


@main.group()
def check() -> None:
    """Check a data set or a submission."""


@check.command("data")
@click.argument("folder", metavar="DIR")
def check_data(folder: str) -> None:
    """Read every table, image and label of a data set and report all faults at once."""
    from lib.dataset import layout

    click.echo(layout.check(folder))


@check.command("submission")
@click.argument("submission", metavar="FILE")
@click.option("--masks", required=True, metavar="DIR", help="Masks that the submission was made from.")
@click.option("--data", required=True, metavar="DIR", help="Data set in the competition's layout.")
@click.option("--size", **SIZE, help="Size of the submitted masks (default: the run's, else 960 540).")
def check_submission(submission: str, masks: str, data: str, size: tuple[int, int] | None) -> None:
    """Compare a submission with its masks, pixel by pixel."""
    from lib.run import Run
    from lib.submission.table import SIZE as USUAL
    from lib.submission.table import check_submission

    entry = Run(Path(masks).absolute().parent).entry("submit") or {}
    width, height = size or entry.get("parameters", {}).get("submission_size", USUAL)
    table = check_submission(submission, masks, data, (width, height))
    click.echo(f"{submission}: agrees with {masks}, pixel by pixel")
    click.echo(table.to_string(float_format="%.4f"))


@main.command()
@click.argument("submissions", nargs=-1, required=True, metavar="FILE...")
@click.option("--labels", required=True, metavar="DIR", help="Folder with the label <id>.png of each test image.")
@click.option("--size", **SIZE, help="Size of the submitted masks (default: inferred).")
def score(submissions: tuple[str, ...], labels: str, size: tuple[int, int] | None) -> None:
    """Print the IoU of submissions on labels, one column per submission."""
    _print_scores(submissions, labels, size)


def _print_scores(submissions, labels: str, size: tuple[int, int] | None) -> None:
    import pandas as pd

    from lib.submission.score import score_submission

    table = pd.DataFrame({path: score_submission(path, labels, size) for path in submissions})
    click.echo(table.to_string(float_format="%.3f", na_rep="–"))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments: tuple[str, ...]) -> None:
    """Open the notebooks in JupyterLab; it receives all further arguments."""
    from lib.pipeline import notebooks_folder

    source = notebooks_folder()
    place = source.parent
    if source.parent == Path(lib.__file__).parent:  # an installed package: work on a copy
        place = Path.cwd()
        shutil.copytree(source, place / "notebooks", dirs_exist_ok=True)
    if not (place / "data" / "sample").exists():
        from lib.sample import write

        write(place / "data" / "sample")
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyter", "lab", f"--notebook-dir={place / 'notebooks'}", *root, *arguments]
    # First the kernel of this interpreter: elsewhere, `python3` may mean another one.
    kernels = os.pathsep.join(filter(None, [f"{sys.prefix}/share/jupyter", os.environ.get("JUPYTER_PATH")]))
    raise SystemExit(subprocess.call(command, env=os.environ | {"JUPYTER_PATH": kernels}))


for _command in TOOLS:
    main.add_command(_command)

if __name__ == "__main__":
    main(prog_name="fisheye")
