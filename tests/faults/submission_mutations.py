"""Mutated submissions, which the check has to tell from the sound one.

The names of mutations that leave the meaning identical begin with ``same``. They are accepted on purpose: pandas, the
usual reader of submissions, finds the same cells, and decoding the same pixels. Other spellings of numbers, and other
spaces, are refused on purpose: programs differ about them.
"""

import io
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path

from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.submission.table import check_submission
from tests.faults.mutate_submission import (
    IDS,
    SIZE,
    Mutation,
    csv,
    each_line,
    of_bytes,
    of_runs,
    of_text,
    one_line,
    sound,
)
from tests.faults.mutations_of_file import FILE_MUTATIONS
from tests.faults.mutations_of_rows import ID_MUTATIONS, ROW_MUTATIONS
from tests.faults.mutations_of_runs import PIXEL_MUTATIONS, RUN_MUTATIONS
from tests.faults.mutations_of_spelling import SPELLING_MUTATIONS

SAME_MUTATIONS: dict[str, Mutation] = {
    "same: CRLF": of_text(lambda text: text.replace("\n", "\r\n")),
    "same: CR": of_text(lambda text: text.replace("\n", "\r")),
    "same: all cells quoted": each_line(lambda line: f'"{line.replace(",", chr(34) + "," + chr(34))}"', header=True),
    "same: runs quoted": each_line(lambda line: line.replace(",", ',"') + '"'),
    "same: byte order mark": of_bytes(lambda data: b"\xef\xbb\xbf" + data),
    "same: byte order mark and CRLF": of_bytes(lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
    "same: no line end at the end": of_text(str.rstrip),
    "same: blank lines at the end": of_text(lambda text: text + "\n\n"),
    "same: blank line between rows": one_line(9, lambda line: "\n" + line),
    "same: a run in two": of_runs(lambda n: [n[0], 1, n[0] + 1, n[1] - 1, *n[2:]]),
}

MUTATIONS: dict[str, Mutation] = (
    ROW_MUTATIONS
    | ID_MUTATIONS
    | RUN_MUTATIONS
    | PIXEL_MUTATIONS
    | SPELLING_MUTATIONS
    | FILE_MUTATIONS
    | SAME_MUTATIONS
)


def run(folder: Path, names: Iterable[str] = tuple(MUTATIONS)) -> dict:
    """Check each mutation in an empty folder; return the number of kinds ``tried`` and those ``missed``, with a reason.

    A mutation is missed if it is accepted, or ends in another error than InputError; one of the same meaning, if it is
    not accepted.
    """
    given, path, missed = sound(), folder / "submission.csv", {}
    for image_id, mask in given.masks.items():
        image_files.write_png(folder / "masks" / f"{image_id}.png", mask)
    layout.write_table(folder / "test.csv", ("id", "img_path"), [(i, f"{i}.png") for i in IDS])
    layout.write_sample(folder, IDS)

    def refusal(data: bytes) -> str:
        path.write_bytes(data)
        try:
            with redirect_stderr(io.StringIO()):  # a progress bar per check
                check_submission(path, folder / "masks", folder, SIZE)
        except InputError as error:
            return str(error)
        return ""

    original = csv(given.rows).encode()
    assert not refusal(original)
    names, seen = list(names), {original: "the sound one"}
    for name in names:
        data = MUTATIONS[name](given)
        if data in seen:
            missed[name] = f"the same bytes as {seen[data]}"
        seen[data] = name
        try:
            message = refusal(data)
        except Exception as error:  # a crash is what is looked for
            missed[name] = repr(error)
            continue
        if name.startswith("same") == bool(message):
            missed[name] = message or "accepted"
    return {"tried": len(names), "missed": missed}
