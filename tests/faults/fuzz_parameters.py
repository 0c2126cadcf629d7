"""Random values of options, as ``fisheye run -p`` gets them: refused in words, or taken as what they are."""

import random
from pathlib import Path

from click.testing import CliRunner

from lib.cli import main
from lib.pipeline import STAGES

_PIECES = [
    *("0", "1", "-1", "2", "0.5", "1e-4", "1e400", ".nan", ".inf", "-.inf", "9" * 30, "9" * 5000, "true", "null", "~"),
    *("yes", "off", "a", "demo", "target", "cpu", "cuda", "none", "fixed", "''", '"\\0"', '"\\x01"', "é", "\U0001f600"),
    *(
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ": ",
        "- ",
        "\n",
        " ",
        "?",
        "!",
        "!!int ",
        "!!set ",
        "&a ",
        "*a",
        "|",
        ">",
        "#",
        "%",
    ),
    *("/dev/null", "..", "~/x", "2024-01-01", "12:30:45", "0x1f", "0b11", "1_000", "<<", "=", "@", "`"),
    *("optim_wrapper.optimizer.lr", "model.backbone", "checkpoint", "classes", "max_iters", "crop_size"),
]
_NAMES = sorted({name for stage in STAGES.values() for name in stage.options.names()} | {"", "no", "seed.a"})


def one(seed: int, folder: Path) -> bool:
    """Give one to three options random texts; return whether all values were taken (the data set is missing)."""
    rng = random.Random(seed)
    arguments = ["run", "--data", str(folder / "nodata"), "--out", str(folder / "run"), "--to", "augment"]
    for _ in range(rng.randint(1, 3)):
        text = "".join(rng.choices(_PIECES, k=rng.randint(1, 6)))
        arguments += ["-p", rng.choice(_NAMES), rng.choice([text, f"[{text}]", f"{{{text}: {text}}}", text[:20]])]
    done = CliRunner().invoke(main, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (1, 2) and "Traceback" not in done.output, done.output
    assert not (folder / "run").exists(), arguments
    return "no such folder" in done.output
