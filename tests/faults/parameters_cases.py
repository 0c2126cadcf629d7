"""Values of options that must be refused in plain words before anything is touched, and a few that must be taken."""

from collections.abc import Callable
from functools import partial
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from lib.cli import main
from lib.options import Options
from lib.stages.augment import AugmentOptions
from lib.stages.infer import InferOptions
from lib.stages.submit import SubmitOptions
from lib.stages.train import TrainOptions
from tests.faults.outcome import refused


def _nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def _doubled(times: int) -> list:
    """A list of 2**times values that takes the memory of a few."""
    value: list = [1]
    for _ in range(times):
        value = [value, value]
    return value


_ENDLESS: list = []
_ENDLESS.append(_ENDLESS)

VALUES: dict[type[Options], dict[str, list[Any]]] = {
    AugmentOptions: {
        "seed": [-1, 2**31, 10**400, 10**5000, 1.0, nan, "1", True, None, [0], np.int64(-3)],
        "copies": [-1, 1001, 10**10, 0.5, "many", inf],
        "augment": [1, 0, "true", "yes", None, []],
        "lens": ["fisheye", "", None, 3, ["fixed"], "Estimated"],
        "cameras_file": ["", " ", 3, True, "a\0b", "x" * 5000, ["a.yaml"], "\udcff"],
        "source_fov_deg": [60, [60], [60, 50], [0, 90], [90, 180], [60, nan], [60, inf], ["60", "90"], [1, 2, 3]],
        "appearance": ["mean", 1, None, ["none"]],
        "data": [3, "", None, "a\0", b"data"],
        "out": [3, "", None, "a\0", ["a"]],
    },
    TrainOptions: {
        "recipe": ["nosuch", "", 5, None, "demo.py", "x" * 300, "upernet_internimage_q", ["demo"]],
        "processes": [0, -1, 1.5, "two", nan, 10**30, True],
        "max_iters": [0, -5, 2.5, "100", inf, 10**12, 10**400],
        "batch_size": [0, -1, 1.5, "2", nan, 10**12],
        "load_from": [5, True, "", ["a.pth"], {5: "a.pth"}, {"checkpoint": nan}, {"checkpoint": print}],
        "self_training": [1, "yes", None, {}],
        "seed": [-1, 2**32, 0.0, "0"],
        "amp": ["maybe", "fp32", 16, None, ["bf16"]],
        "options": [
            5,
            "lr",
            [1],
            {1: 2},
            {None: 1},
            {"a": nan},
            {"a": {"b": [inf]}},
            {"a": 10**400},
            {"a": {1, 2}},
            {"a": print},
            {"a": _nested(2000)},
            {"a": _doubled(60)},
            {"a": _ENDLESS},
            {"a": "\0"},
            {"a": np.array([nan])},
        ],
    },
    InferOptions: {
        "checkpoint": [5, [], [5], True, "", {"a": 1}, ["a.pth", None], "a\0.pth"],
        "sliding": [5, "on", [], 0.5],
        "window_blend": ["gauss", 1, None],
        "flip": ["maybe", 1, None],
        "scales": [[], [0], [-1], [inf], [nan], [17], 1.0, "all", ["1"], [1] * 17, [True], [[1.0]], None],
        "rectified_views": [-1, 65, 1.5, "3", 10**400],
        "norm_adaptation": [-0.1, 1.1, nan, inf, "half", True],
        "feature_alignment": [-1, 2, nan, None],
        "min_region": [-1, nan, inf, -inf, "1", [0], 10**400],
        "crops_per_batch": [0, -1, 4097, 0.5],
        "amp": ["bf16", 1],
        "compile": ["yes", 1, None],
        "device": ["", "gpu", "cuda:99", "meta", "cuda:-1", 0, "CPU", "cuda:x", ["cpu"]],
    },
    SubmitOptions: {
        "submission_size": [960, [960], [960, 0], [-1, 5], [1, 2**15], [9.5, 5], "960x540", [1, 2, 3], None]
    },
}

TEXTS: list[tuple[str, str]] = [
    ("seed", "9" * 400),
    ("seed", "9" * 5000),
    ("seed", "-1"),
    ("seed", "1.5"),
    ("seed", ""),
    ("seed", "~"),
    ("seed", "2024-13-45"),
    ("seed", "2024-01-01"),
    ("max_iters", "[1,"),
    ("max_iters", "{a: 1"),
    ("max_iters", "1e-4"),
    ("max_iters", "*anchor"),
    ("max_iters", "!!python/object/apply:os.system [ls]"),
    ("max_iters", "&a [*a, *a]"),
    ("max_iters", "\t"),
    ("max_iters", "@"),
    ("options", "[" * 1000 + "]" * 1000),
    ("options", "{1: 2}"),
    ("options", "{a: .nan}"),
    ("options", "{[a]: 1}"),
    ("options", "{? {a: 1} : 2}"),
    ("options", "{a: 2001-01-01}"),
    ("options", "{a: !!binary aGVsbG8=}"),
    ("options", "{a: !!set {x, y}}"),
    ("options", "lr"),
    ("seed", "!!int ''"),
    ("flip", "!!bool x"),
    ("seed", "!!timestamp x"),
    ("seed", "!!float []"),
    ("options", "!!map 5"),
    ("scales", "[.inf]"),
    ("scales", "1.0"),
    ("scales", "[1.0, nan]"),
    ("min_region", ".nan"),
    ("min_region", "-0.1"),
    ("amp", "maybe"),
    ("sliding", "5"),
    ("flip", "2"),
    ("processes", "-1"),
    ("checkpoint", "5"),
    ("checkpoint", "[]"),
    ("cameras_file", "5"),
    ("device", "warp"),
    ("submission_size", "960"),
    ("submission_size", "[960, 540, 3]"),
    ("recipe", "5"),
    ("recipe", "nosuch"),
    ("self_training", "maybe"),
    ("load_from", "[a, b]"),
    ("min_regio", "1"),
    ("max_iter", "5"),
    ("", "5"),
    ("data", "elsewhere"),
    ("out", "elsewhere"),
    ("overwrite", "true"),
]
"""Name and text of ``-p NAME VALUE``."""


def _value(kind: type[Options], name: str, value: Any, folder: Path) -> None:
    refused(lambda: kind(**{name: value}), naming=name)


def _run(folder: Path, *arguments: str) -> Any:
    given = ["run", "--data", str(folder / "data"), "--out", str(folder / "run"), *arguments]
    return CliRunner().invoke(main, given)


def _text(name: str, text: str, folder: Path) -> None:
    _refused_text(_run(folder, "-p", name, text), name, folder)


def _refused_text(done: Any, naming: str, folder: Path) -> None:
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit), f"{done.exception!r} {done.output}"
    assert "Traceback" not in done.output and naming in done.output, done.output
    assert max(map(len, done.output.splitlines())) < 1200, "a page of text"
    assert not (folder / "run").exists(), "the run folder was created"


def _arguments(arguments: list[str], naming: str, folder: Path) -> None:
    _refused_text(_run(folder, *arguments), naming, folder)


def _taken(kind: type[Options], name: str, value: Any, expected: Any, folder: Path) -> None:
    assert getattr(kind(**{name: value}), name) == expected


def _number_with_exponent(folder: Path) -> None:
    done = _run(folder, "-p", "norm_adaptation", "1e-1", "-p", "min_region", "1E1", "-p", "copies", "1e")
    assert "norm_adaptation" not in done.output and "min_region" not in done.output and "copies: '1e'" in done.output


def _all_at_once(folder: Path) -> None:
    done = _run(folder, "-p", "seed", "-1", "-p", "flip", "maybe", "-p", "submission_size", "7")
    _refused_text(done, "seed: -1", folder)
    assert "flip: 'maybe'" in done.output and "submission_size: 7" in done.output


ARGUMENTS: list[tuple[list[str], str]] = [
    (["-p", "seed=3"], "expected: -p seed 3"),
    (["-p", "seed=3", "--resume"], "expected: -p seed 3"),
    (["-p", "max_iters:", "--resume"], "max_iters"),
    (["-p", "scales=[1.0]", "-p", "seed", "1"], "expected: -p scales [1.0]"),
    (["-p", "seed"], "-p"),
    (["--warm-start", "-1"], "--warm-start -1"),
    (["--warm-start", "many"], "many"),
    (["--warm-start", "5", "--from", "infer"], "does not train"),
    (["--warm-start", "5", "-p", "load_from", "a.pth"], "one of them"),
    (["--from", "submit", "--to", "augment"], "--from submit"),
    (["--from", "begin"], "begin"),
    (["--recipe", "nosuch"], "nosuch"),
    (["--recipe", "/dev/zero"], "/dev/zero"),
    (["-p", "copies", "0", "-p", "augment", "false"], "copies"),
    (["-p", "source_fov_deg", "[90, 60]"], "source_fov_deg"),
    (["-p", "options", "{self_training.warmup: 0.5}"], "self_training"),
    (["-p", "self_training", "true", "-p", "options", "{self_training.warmup: 7}"], "warmup"),
    (["-p", "self_training", "true", "-p", "options", "{self_training.warmupp: 0.5}"], "warmupp"),
]

TAKEN: list[tuple[type[Options], str, Any, Any]] = [
    (AugmentOptions, "seed", 2**31 - 1, 2**31 - 1),
    (AugmentOptions, "seed", np.int64(3), 3),
    (AugmentOptions, "source_fov_deg", (60, 90), [60, 90]),
    (AugmentOptions, "data", Path("a") / "b{c}", "a/b{c}"),
    (TrainOptions, "amp", "bf16", "bf16"),
    (TrainOptions, "options", {"optim_wrapper.optimizer.lr": 1e-4}, {"optim_wrapper.optimizer.lr": 1e-4}),
    (InferOptions, "scales", "target", "target"),
    (InferOptions, "scales", np.array([1.0, 2.0]), [1.0, 2.0]),
    (InferOptions, "min_region", 1, 1.0),
    (InferOptions, "device", "cpu", "cpu"),
]


def _cases() -> dict[str, Callable[[Path], None]]:
    found: dict[str, Callable[[Path], None]] = {}
    for kind, options in VALUES.items():
        for name, values in options.items():
            for number, value in enumerate(values):
                found[f"{kind.__name__} {name} {number}"] = partial(_value, kind, name, value)
    for number, (name, text) in enumerate(TEXTS):
        found[f"-p {number} {name} {text[:30]!r}"] = partial(_text, name, text)
    for arguments, naming in ARGUMENTS:
        found[" ".join(arguments)] = partial(_arguments, arguments, naming)
    for number, (kind, name, value, expected) in enumerate(TAKEN):
        found[f"taken {number}: {name}"] = partial(_taken, kind, name, value, expected)
    found["1e-1 is a number"] = _number_with_exponent
    found["all faults of values at once"] = _all_at_once
    return found


CASES = _cases()
