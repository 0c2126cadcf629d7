"""Mutated submissions, which the check has to tell from the sound one.

The names of mutations that leave the meaning identical begin with ``same``. They are accepted on purpose: pandas, the
usual reader of submissions, finds the same cells, and decoding the same pixels. Other spellings of numbers, and other
spaces, are refused on purpose: programs differ about them.
"""

import base64
import bz2
import gzip
import io
import json
import pickle
import re
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path

import cv2
import numpy as np

from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, CAR, CLASSES, IGNORE, NATURE, ROAD, SKY
from lib.errors import InputError
from lib.submission.run_length import encode_mask
from lib.submission.table import check_submission
from tests.faults.mutate_submission import (
    IDS,
    SIZE,
    K,
    Mutation,
    assigned,
    by_class,
    csv,
    each_line,
    exchanged,
    flipped_bit,
    largest_part,
    long_form,
    of_absent,
    of_bytes,
    of_cell,
    of_class,
    of_ids,
    of_masks,
    of_present,
    of_rows,
    of_runs,
    of_starts,
    of_text,
    one_line,
    renamed,
    resized,
    shuffled,
    sound,
    wide_form,
    zipped,
)

DIGITS = "0123456789"
PIXELS = SIZE[0] * SIZE[1]

ROW_MUTATIONS: dict[str, Mutation] = {
    "first row dropped": of_rows(lambda rows: rows[1:]),
    "last row dropped": of_rows(lambda rows: rows[:-1]),
    "middle row dropped": of_rows(lambda rows: rows[:17] + rows[18:]),
    "rows of an image dropped": of_rows(lambda rows: rows[:K] + rows[2 * K :]),
    "rows of a class dropped": of_rows(lambda rows: [row for row in rows if not row[0].endswith("_8")]),
    "absent rows dropped": of_rows(lambda rows: [row for row in rows if row[1] != "-1"]),
    "all rows dropped": of_rows(lambda rows: []),
    "first row doubled": of_rows(lambda rows: rows[:1] + rows),
    "last row doubled": of_rows(lambda rows: rows + rows[-1:]),
    "row doubled with other runs": of_rows(lambda rows: [*rows, [rows[0][0], rows[1][1]]]),
    "row doubled in place of the next": of_rows(lambda rows: [rows[0], rows[0], *rows[2:]]),
    "all rows doubled": of_rows(lambda rows: rows + rows),
    "each row doubled": of_rows(lambda rows: [row for row in rows for _ in range(2)]),
    "neighbouring rows exchanged": of_rows(lambda rows: exchanged(rows, 4, 5)),
    "distant rows exchanged": of_rows(lambda rows: exchanged(rows, 4, 30)),
    "images in another order": of_rows(lambda rows: rows[K : 2 * K] + rows[:K] + rows[2 * K :]),
    "rows reversed": of_rows(lambda rows: rows[::-1]),
    "rows sorted as text": of_rows(sorted),
    "rows sorted by class": of_rows(by_class),
    "rows sorted by runs": of_rows(lambda rows: sorted(rows, key=lambda row: row[1])),
    "rows shuffled": of_rows(shuffled),
    "rows rotated by one": of_rows(lambda rows: rows[1:] + rows[:1]),
    "unknown image added": of_rows(lambda rows: rows + [[f"TEST_9999_class_{c}", "-1"] for c in range(K)]),
    "unknown image in place of one": of_rows(lambda rows: [[i.replace("_0123", "_0124"), t] for i, t in rows]),
    "row of Background added": of_rows(lambda rows: [*rows, [f"{IDS[-1]}_class_12", "-1"]]),
    "row of class 255 added": of_rows(lambda rows: [*rows, [f"{IDS[-1]}_class_255", "-1"]]),
    "row of class -1 added": of_rows(lambda rows: [*rows, [f"{IDS[-1]}_class_-1", "-1"]]),
    "header again at the end": of_rows(lambda rows: [*rows, ["id", "mask_rle"]]),
    "header again in the middle": of_rows(lambda rows: [*rows[:9], ["id", "mask_rle"], *rows[9:]]),
    "row of blank cells": of_rows(lambda rows: [*rows, ["", ""]]),
    "comment line": of_rows(lambda rows: [["# made by hand", ""], *rows]),
    "row of totals": of_rows(lambda rows: [*rows, ["total", str(len(rows))]]),
    "a row per run": of_rows(long_form),
    "a row per image": of_rows(lambda rows: [[IDS[n // K], row[1]] for n, row in enumerate(rows) if n % K == 0]),
    "a column per class": wide_form,
}

ID_MUTATIONS: dict[str, Mutation] = {
    "id in lower case": of_ids(str.lower),
    "all ids in lower case": of_ids(str.lower, every=True),
    "space after an id": of_ids(lambda i: i + " "),
    "space before an id": of_ids(lambda i: " " + i),
    "no-break space after an id": of_ids(lambda i: i + "\xa0"),
    "zero-width space in an id": of_ids(lambda i: i.replace("_", "_\u200b", 1)),
    "combining accent in an id": of_ids(lambda i: i.replace("E", "E\u0301", 1)),
    "Cyrillic letter in an id": of_ids(lambda i: i.replace("T", "\u0422", 1)),
    "fullwidth digits in an id": of_ids(lambda i: i.replace("0", "\uff10")),
    "tab after an id": of_ids(lambda i: i + "\t"),
    "NUL after an id": of_ids(lambda i: i + "\0"),
    "newline in a quoted id": of_ids(lambda i: f'"{i}\n"'),
    "zeros of the image number dropped": of_ids(lambda i: i.replace("_00", "_"), every=True),
    "zero before the class": of_ids(lambda i: i.replace("class_", "class_0"), every=True),
    "classes counted from 1": of_ids(lambda i: f"{i.rpartition('_')[0]}_{int(i.rpartition('_')[2]) + 1}", every=True),
    "classes counted backwards": of_ids(
        lambda i: f"{i.rpartition('_')[0]}_{11 - int(i.rpartition('_')[2])}", every=True
    ),
    "class names in ids": of_ids(lambda i: f"{i.rpartition('_')[0]}_{CLASSES[int(i.rpartition('_')[2])]}", every=True),
    "class in capitals": of_ids(lambda i: i.replace("class", "CLASS"), every=True),
    "hyphens in ids": of_ids(lambda i: i.replace("_", "-"), every=True),
    "underscore doubled": of_ids(lambda i: i.replace("_class", "__class")),
    "suffix of the image in ids": of_ids(lambda i: i.replace("_class", ".png_class"), every=True),
    "folder in ids": of_ids(lambda i: "test_image/" + i, every=True),
    "prefix of ids dropped": of_ids(lambda i: i.removeprefix("TEST_"), every=True),
    "class dropped from ids": of_ids(lambda i: i.rpartition("_class")[0], every=True),
    "id blank": of_ids(lambda i: ""),
    "id NaN": of_ids(lambda i: "NaN"),
    "id -1": of_ids(lambda i: "-1"),
    "id of the next row": of_ids(lambda i: i.replace("_class_0", "_class_1")),
    "ids numbered": of_rows(lambda rows: [[str(n), text] for n, (_, text) in enumerate(rows)]),
    "ids of two classes exchanged": of_rows(lambda rows: exchanged(rows, 2, 3, 0)),
    "ids of two images exchanged": of_rows(lambda rows: exchanged(rows, 2, 2 + K, 0)),
}

RUN_MUTATIONS: dict[str, Mutation] = {
    "first start one later": of_runs(lambda n: [n[0] + 1, *n[1:]]),
    "first start one earlier": of_runs(lambda n: [n[0] - 1, *n[1:]]),
    "all starts one later": of_starts(lambda start: start + 1),
    "pixels counted from 0": of_starts(lambda start: start - 1),
    "all starts a row later": of_starts(lambda start: start + SIZE[0]),
    "first length one more": of_runs(lambda n: [n[0], n[1] + 1, *n[2:]]),
    "first length one less": of_runs(lambda n: [n[0], n[1] - 1, *n[2:]]),
    "last length one more": of_runs(lambda n: [*n[:-1], n[-1] + 1]),
    "all lengths one less": of_runs(lambda n: [v - at % 2 for at, v in enumerate(n)], every=True),
    "run moved, end kept": of_runs(lambda n: [n[0] + 1, n[1] - 1, *n[2:]]),
    "length zero": of_runs(lambda n: [n[0], 0, *n[2:]]),
    "run of length zero added": of_runs(lambda n: [*n, n[-2] + n[-1] + 1, 0]),
    "length negative": of_runs(lambda n: [n[0], -n[1], *n[2:]]),
    "start negative": of_runs(lambda n: [-n[0], *n[1:]]),
    "start zero": of_runs(lambda n: [0, *n[1:]]),
    "first run dropped": of_runs(lambda n: n[2:]),
    "last run dropped": of_runs(lambda n: n[:-2]),
    "middle run dropped": of_runs(lambda n: n[:2] + n[4:]),
    "first run doubled": of_runs(lambda n: n[:2] + n),
    "last run doubled": of_runs(lambda n: n + n[-2:]),
    "runs in reverse order": of_runs(lambda n: [v for at in range(len(n) - 2, -1, -2) for v in n[at : at + 2]]),
    "two runs exchanged": of_runs(lambda n: n[2:4] + n[:2] + n[4:]),
    "all numbers reversed": of_runs(lambda n: n[::-1]),
    "all numbers sorted": of_runs(sorted),
    "starts, then lengths": of_runs(lambda n: n[::2] + n[1::2]),
    "length before start": of_runs(lambda n: [v for at in range(0, len(n), 2) for v in (n[at + 1], n[at])]),
    "ends instead of lengths": of_runs(lambda n: [v + n[at - 1] - 1 if at % 2 else v for at, v in enumerate(n)]),
    "ends after the last pixel": of_runs(lambda n: [v + n[at - 1] if at % 2 else v for at, v in enumerate(n)]),
    "starts as differences": of_runs(
        lambda n: [v - n[at - 2] if at > 1 and at % 2 == 0 else v for at, v in enumerate(n)]
    ),
    "run overlaps the next": of_runs(lambda n: [n[0], n[2] - n[0] + 1, *n[2:]]),
    "run reaches the next": of_runs(lambda n: [n[0], n[2] - n[0], *n[2:]]),
    "gap between runs filled": of_runs(lambda n: [n[0], n[2] + n[3] - n[0], *n[4:]]),
    "run within another": of_runs(lambda n: [*n[:2], n[0] + 1, 1, *n[2:]]),
    "run one pixel past the end": of_runs(lambda n: [*n[:-2], n[-2], PIXELS - n[-2] + 2]),
    "run begins past the end": of_runs(lambda n: [*n, PIXELS + 1, 1]),
    "run far past the end": of_runs(lambda n: [*n, 10**7, 5]),
    "length of the whole image": of_runs(lambda n: [*n[:-1], PIXELS]),
    "number of 20 digits": of_runs(lambda n: [*n, 10**19, 1]),
    "largest number of 64 bits": of_runs(lambda n: [*n, 2**63 - 1, 2**63 - 1]),
    "number that wraps at 32 bits": of_runs(lambda n: [n[0] + 2**32, *n[1:]]),
    "number that wraps at 64 bits": of_runs(lambda n: [n[0] + 2**64, *n[1:]]),
    "number of 4,000 digits": of_runs(lambda n: [*n, 10**4000, 1]),
    "number of 6,000 digits": of_cell(lambda text: f"{text} {'9' * 6000} 1"),
    "last number dropped": of_runs(lambda n: n[:-1]),
    "first number dropped": of_runs(lambda n: n[1:]),
    "number added": of_runs(lambda n: [*n, 1]),
    "-1 added": of_runs(lambda n: [*n, -1]),
    "-1 before the runs": of_runs(lambda n: [-1, *n]),
    "-1 -1 added": of_runs(lambda n: [*n, -1, -1]),
    "digit dropped": of_cell(lambda text: re.sub(r"(\d)\d", r"\1", text, count=1)),
    "spaces dropped": of_cell(lambda text: text.replace(" ", "")),
    "one space dropped": of_cell(lambda text: text.replace(" ", "", 1)),
    "runs of two rows joined": of_rows(lambda rows: [[rows[0][0], f"{rows[0][1]} {rows[1][1]}"], *rows[1:]]),
    "runs of two classes exchanged": of_rows(lambda rows: exchanged(rows, 2, 3, 1)),
    "runs of two images exchanged": of_rows(lambda rows: exchanged(rows, 2, 2 + K, 1)),
    "runs one row later": of_rows(lambda rows: [[i, rows[n - 1][1]] for n, (i, _) in enumerate(rows)]),
    "runs of an absent class": of_absent("1 1"),
    "runs of the sample": of_rows(lambda rows: [[i, "-1"] for i, _ in rows]),
    "runs of every image the first's": of_rows(lambda rows: [[i, rows[n % K][1]] for n, (i, _) in enumerate(rows)]),
}

PIXEL_MUTATIONS: dict[str, Mutation] = {
    "column by column": lambda given: csv(
        [[f"{i}_class_{c}", encode_mask(mask.T == c)] for i, mask in given.masks.items() for c in range(K)]
    ).encode(),
    "flipped left to right": of_masks(np.fliplr),
    "flipped top to bottom": of_masks(np.flipud),
    "turned by 180 degrees": of_masks(lambda mask: mask[::-1, ::-1]),
    "moved one pixel right": of_masks(lambda mask: np.roll(mask, 1, 1)),
    "moved one pixel down": of_masks(lambda mask: np.roll(mask, 1, 0)),
    "moved one pixel in reading order": of_masks(lambda mask: np.roll(mask.ravel(), 1).reshape(mask.shape)),
    "one pixel added": of_class(lambda road: assigned(np.unravel_index(road.argmin(), road.shape), 1)(road)),
    "one pixel removed": of_class(lambda road: assigned(tuple(np.argwhere(road)[-1]), 0)(road)),
    "first pixel changed": of_masks(lambda mask: assigned((0, 0), (mask[0, 0] + 1) % K)(mask)),
    "last pixel changed": of_masks(lambda mask: assigned((-1, -1), (mask[-1, -1] + 1) % K)(mask)),
    "first row of pixels empty": of_masks(assigned(np.s_[:1], BACKGROUND)),
    "last row of pixels empty": of_masks(assigned(np.s_[-1:], BACKGROUND)),
    "last column of pixels empty": of_masks(assigned(np.s_[:, -1:], BACKGROUND)),
    "lower half empty": of_masks(assigned(np.s_[6:], BACKGROUND)),
    "a class inverted": of_class(lambda road: 1 - road),
    "a class everywhere": of_class(np.ones_like),
    "a class nowhere": of_class(np.zeros_like),
    "a class grown by a pixel": of_class(lambda road: cv2.dilate(road, np.ones((3, 3)))),
    "a class shrunk by a pixel": of_class(lambda road: cv2.erode(road, np.ones((2, 2)))),
    "a class closed": of_class(lambda road: cv2.morphologyEx(road, cv2.MORPH_CLOSE, np.ones((5, 5)))),
    "the largest part of a class": of_class(largest_part),
    "a class smoothed": of_class(lambda road: cv2.blur(road.astype(np.float32), (3, 3)) > 0.5),
    "a class shows another one too": lambda given: of_class(lambda road: road | (given.masks[IDS[0]] == SKY))(given),
    "a class shows Background too": lambda given: of_class(lambda road: road | (given.masks[IDS[0]] == 12))(given),
    "a class shows 255 too": lambda given: of_class(lambda road: road | (given.masks[IDS[0]] == IGNORE))(given),
    "a class given to another": of_masks(renamed(NATURE, SKY)),
    "two classes exchanged everywhere": of_masks(lambda mask: np.where(mask == ROAD, CAR, renamed(CAR, ROAD)(mask))),
    "classes counted one higher": of_masks(lambda mask: np.where(mask < K, mask + 1, mask)),
    "classes counted one lower": of_masks(lambda mask: np.where(mask < K, mask.astype(int) - 1, mask)),
    "Background given to Road": of_masks(renamed(BACKGROUND, ROAD)),
    "255 given to Road": of_masks(renamed(IGNORE, ROAD)),
    "255 given to Car": of_masks(renamed(IGNORE, CAR)),
    "masks of twice the size": of_masks(resized((32, 24))),
    "masks of half the size": of_masks(resized((8, 6))),
    "masks twice as wide": of_masks(resized((32, 12))),
    "masks of exchanged sides": of_masks(resized((12, 16))),
    "masks turned by 90 degrees": of_masks(np.rot90),
    "masks one column wider": of_masks(lambda mask: np.pad(mask, ((0, 0), (0, 1)), "edge")),
    "masks one column narrower": of_masks(lambda mask: mask[:, :-1]),
    "masks without the first row": of_masks(lambda mask: mask[1:]),
    "masks padded on all sides": of_masks(lambda mask: np.pad(mask, 1, "edge")),
    "masks resized down and up": of_masks(lambda mask: resized((16, 12))(resized((6, 4))(mask))),
    "class ids interpolated": of_masks(lambda mask: resized((16, 12), cv2.INTER_LINEAR)(mask[1:-1, 1:-1])),
    "masks of the competition's size": of_masks(resized((960, 540))),
    "image of noise": of_masks(lambda mask: np.random.default_rng(0).integers(0, 13, mask.shape)),
    "one image empty": of_rows(lambda rows: [[i, "-1" if n < K else text] for n, (i, text) in enumerate(rows)]),
    "masks of class 0": of_masks(np.zeros_like),
}

SPELLING_MUTATIONS: dict[str, Mutation] = {
    "decimal starts": of_cell(lambda text: " ".join(w if n % 2 else w + ".0" for n, w in enumerate(text.split()))),
    "decimal lengths": of_cell(lambda text: " ".join(w + ".0" if n % 2 else w for n, w in enumerate(text.split()))),
    "decimal point at the end": of_cell(lambda text: text + "."),
    "decimal comma": of_cell(lambda text: f'"{text},0"'),
    "half a pixel": of_cell(lambda text: text + ".5"),
    "exponent": of_cell(lambda text: text + "e0"),
    "exponent in capitals": of_cell(lambda text: " ".join(f"{int(word):.2E}" for word in text.split())),
    "plus sign": of_cell(lambda text: "+" + text),
    "leading zeros": of_cell(lambda text: "00" + text),
    "hexadecimal": of_cell(lambda text: " ".join(hex(int(word)) for word in text.split())),
    "octal": of_cell(lambda text: " ".join(oct(int(word)) for word in text.split())),
    "binary": of_cell(lambda text: " ".join(bin(int(word)) for word in text.split())),
    "underscore between digits": of_rows(lambda rows: [[i, re.sub(r"(\d)(\d)", r"\1_\2", t)] for i, t in rows]),
    "thousands comma": of_cell(lambda text: f'"{text} 1,000 1"'),
    "Arabic digits": of_cell(lambda text: text.translate({ord(d): 0x660 + int(d) for d in DIGITS})),
    "Devanagari digits": of_cell(lambda text: text.translate({ord(d): 0x966 + int(d) for d in DIGITS})),
    "fullwidth digits": of_cell(lambda text: text.translate({ord(d): 0xFF10 + int(d) for d in DIGITS})),
    "superscript digits": of_cell(lambda text: text.replace("1", "\xb9")),
    "letter O for zero": of_rows(lambda rows: [[i, text.replace("0", "O")] for i, text in rows]),
    "letter l for one": of_rows(lambda rows: [[i, text.replace("1", "l")] for i, text in rows]),
    "no-break spaces": of_cell(lambda text: text.replace(" ", "\xa0")),
    "thin spaces": of_cell(lambda text: text.replace(" ", "\u2009")),
    "ideographic spaces": of_cell(lambda text: text.replace(" ", "\u3000")),
    "zero-width space": of_cell(lambda text: text.replace(" ", " \u200b", 1)),
    "tabs between numbers": of_cell(lambda text: text.replace(" ", "\t")),
    "double spaces": of_cell(lambda text: text.replace(" ", "  ")),
    "commas between numbers": of_cell(lambda text: f'"{text.replace(" ", ",")}"'),
    "commas and spaces between numbers": of_cell(lambda text: f'"{text.replace(" ", ", ")}"'),
    "unquoted commas between numbers": of_cell(lambda text: text.replace(" ", ",")),
    "semicolons between numbers": of_cell(lambda text: text.replace(" ", ";")),
    "line ends between numbers": of_cell(lambda text: f'"{text.replace(" ", chr(10))}"'),
    "unquoted line end between numbers": of_cell(lambda text: text.replace(" ", "\n", 1)),
    "vertical tab": of_cell(lambda text: text.replace(" ", "\v")),
    "form feed": of_cell(lambda text: text.replace(" ", "\f")),
    "unit separator": of_cell(lambda text: text.replace(" ", "\x1f")),
    "space before runs": of_cell(lambda text: " " + text),
    "space after runs": of_cell(lambda text: text + " "),
    "space after commas": each_line(lambda line: line.replace(",", ", "), header=True),
    "NUL in a number": of_cell(lambda text: text + "\0"),
    "NUL before more runs": of_cell(lambda text: text + "\0 190 1"),
    "brackets": of_cell(lambda text: f"[{text}]"),
    "Python list": of_cell(lambda text: f'"[{text.replace(" ", ", ")}]"'),
    "parentheses": of_cell(lambda text: f"({text})"),
    "colons": of_cell(
        lambda text: " ".join(f"{a}:{b}" for a, b in zip(text.split()[::2], text.split()[1::2], strict=True))
    ),
    "hyphens": of_cell(
        lambda text: " ".join(f"{a}-{b}" for a, b in zip(text.split()[::2], text.split()[1::2], strict=True))
    ),
    "ellipsis": of_cell(lambda text: text[:8] + " ..."),
    "runs in words": of_cell(lambda text: "one " + text[2:]),
    "formula": of_cell(lambda text: "=" + text),
    "apostrophe before runs": of_cell(lambda text: "'" + text),
    "number sign for a wide cell": of_present("########"),
    "runs in scientific form": of_present("1.20E+05"),
    "quotes within quotes": of_cell(lambda text: f'"""{text}"""'),
    "right-to-left mark": of_cell(lambda text: "\u200f" + text),
    "compressed and in base64": of_cell(lambda text: base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()),
    "string of zeros and ones": of_present("0110" * 48),
    "absent: blank": of_absent(""),
    "absent: blank in quotes": of_absent('""'),
    "absent: space": of_absent(" "),
    "absent: NaN": of_absent("NaN"),
    "absent: nan": of_absent("nan"),
    "absent: None": of_absent("None"),
    "absent: null": of_absent("null"),
    "absent: N/A": of_absent("N/A"),
    "absent: <NA>": of_absent("<NA>"),
    "absent: 0": of_absent("0"),
    "absent: 0 0": of_absent("0 0"),
    "absent: 1 0": of_absent("1 0"),
    "absent: []": of_absent("[]"),
    "absent: hyphen": of_absent("-"),
    "absent: -1.0": of_absent("-1.0"),
    "absent: -01": of_absent("-01"),
    "absent: -1 -1": of_absent("-1 -1"),
    "absent: -1 0": of_absent("-1 0"),
    "absent: - 1": of_absent("- 1"),
    "absent: --1": of_absent("--1"),
    "absent: minus sign": of_absent("\u22121"),
    "absent: en dash": of_absent("\u20131"),
    "absent: -1 with a space": of_absent("-1 "),
    "absent: -2": of_absent("-2"),
    "absent: 1": of_absent("1"),
    "absent: -1 twice": of_absent("-1-1"),
    "absent: False": of_absent("False"),
    "absent: number sign": of_absent("#N/A"),
    "absent: absent": of_absent("absent"),
    "present: blank": of_present(""),
    "present: NaN": of_present("NaN"),
    "present: None": of_present("None"),
    "present: 0": of_present("0"),
    "present: inf": of_present("inf 1"),
    "present: True": of_present("True"),
    "present: name of the class": of_present("Road"),
    "present: id of the row": of_rows(lambda rows: [[rows[0][0], rows[0][0]], *rows[1:]]),
    "every absent row blank": of_rows(lambda rows: [[i, "" if text == "-1" else text] for i, text in rows]),
}

FILE_MUTATIONS: dict[str, Mutation] = {
    "header missing": of_text(lambda text: text.partition("\n")[2]),
    "header twice": of_text(lambda text: text.partition("\n")[0] + "\n" + text),
    "header in capitals": one_line(0, str.upper),
    "header with a capital": one_line(0, lambda line: line.replace("id", "Id", 1)),
    "header with spaces": one_line(0, lambda line: line.replace(",", " , ")),
    "header misspelt": one_line(0, lambda line: line.replace("mask_rle", "rle")),
    "header with a space for the underscore": one_line(0, lambda line: line.replace("_", " ")),
    "header of other names": one_line(0, lambda line: "ImageId,EncodedPixels"),
    "header of one column": one_line(0, lambda line: "id"),
    "header blank": one_line(0, lambda line: ""),
    "header of commas": one_line(0, lambda line: ","),
    "header without its first byte": of_bytes(lambda data: data[1:]),
    "columns exchanged": of_text(lambda text: "".join(",".join(line.split(",")[::-1]) + "\n" for line in text.split())),
    "columns exchanged under the header": each_line(lambda line: ",".join(line.split(",")[::-1])),
    "column added": each_line(lambda line: line + ",1", header=True),
    "blank column added": each_line(lambda line: line + ",", header=True),
    "second column of ids": each_line(lambda line: f"{line},{line.split(',')[0]}", header=True),
    "column of row numbers": lambda given: csv(
        [[str(n), *row] for n, row in enumerate(given.rows)], header=",id,mask_rle"
    ).encode(),
    "extra cell per row": each_line(lambda line: line + ",1"),
    "two extra cells per row": each_line(lambda line: line + ",1,2"),
    "extra cell before each row": each_line(lambda line: "7," + line),
    "extra cell in the first row": one_line(1, lambda line: line + ",1"),
    "extra cell in a middle row": one_line(9, lambda line: line + ",1"),
    "extra cell in the last row": one_line(-1, lambda line: line + ",1"),
    "comma after each row": each_line(lambda line: line + ","),
    "cell missing in the first row": one_line(1, lambda line: line.split(",")[0]),
    "cell missing in the last row": one_line(-1, lambda line: line.split(",")[0]),
    "cell missing in every row": each_line(lambda line: line.split(",")[0]),
    "column of runs missing": each_line(lambda line: line.split(",")[0], header=True),
    "comma doubled": one_line(3, lambda line: line.replace(",", ",,")),
    "comma missing": one_line(3, lambda line: line.replace(",", " ")),
    "semicolons": of_text(lambda text: text.replace(",", ";")),
    "tabs": of_text(lambda text: text.replace(",", "\t")),
    "bars": of_text(lambda text: text.replace(",", "|")),
    "spaces": of_text(lambda text: text.replace(",", " ")),
    "Arabic commas": of_text(lambda text: text.replace(",", "\u060c")),
    "single quotes": each_line(lambda line: f"'{line.replace(',', chr(39) + ',' + chr(39))}'"),
    "typographic quotes": each_line(lambda line: line.replace(",", ",\u201c") + "\u201d"),
    "whole line quoted": each_line(lambda line: f'"{line}"'),
    "quote never closed": one_line(3, lambda line: line.replace(",", ',"')),
    "quote closed two rows later": of_text(lambda text: text.replace(",", ',"', 3).replace("\n", '"\n', 5)),
    "quote in a cell": one_line(3, lambda line: line + '"'),
    "line end lost": of_text(lambda text: text.replace("\n", "", 3)),
    "line ends lost": of_text(lambda text: text.replace("\n", "")),
    "line ends as spaces": of_text(lambda text: text.replace("\n", " ")),
    "line ends as two characters": of_text(lambda text: text.replace("\n", "\\n")),
    "UTF-16": lambda given: csv(given.rows).encode("utf-16"),
    "UTF-16 without a mark": lambda given: csv(given.rows).encode("utf-16-be"),
    "UTF-32": lambda given: csv(given.rows).encode("utf-32"),
    "EBCDIC": lambda given: csv(given.rows).encode("cp500"),
    "byte order mark twice": of_bytes(lambda data: b"\xef\xbb\xbf" * 2 + data),
    "byte order mark in the middle": one_line(9, lambda line: "\ufeff" + line),
    "byte order mark of UTF-16": of_bytes(lambda data: b"\xff\xfe" + data),
    "byte order mark in Latin-1": of_bytes(lambda data: "\xef\xbb\xbf".encode() + data),
    "gzip": of_bytes(lambda data: gzip.compress(data, mtime=0)),
    "bzip2": of_bytes(bz2.compress),
    "zip": of_bytes(zipped),
    "base64": of_bytes(base64.b64encode),
    "pickle": lambda given: pickle.dumps(given.rows),
    "JSON": lambda given: json.dumps(dict(given.rows)).encode(),
    "JSON lines": lambda given: "\n".join(json.dumps({"id": i, "mask_rle": t}) for i, t in given.rows).encode(),
    "HTML": lambda given: b"<!DOCTYPE html><html><body>Not found</body></html>",
    "Markdown": of_text(lambda text: "".join(f"|{line.replace(',', '|')}|\n" for line in text.splitlines())),
    "pointer of Git LFS": lambda given: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "marks of a merge conflict": one_line(5, lambda line: f"<<<<<<< HEAD\n{line}\n=======\n{line}\n>>>>>>> other"),
    "line that names the separator": of_text(lambda text: "sep=,\n" + text),
    "title above the header": of_text(lambda text: "submission\n" + text),
    "empty file": lambda given: b"",
    "file of one line end": lambda given: b"\n",
    "file of spaces": lambda given: b" " * 99,
    "cut within the header": of_bytes(lambda data: data[:5]),
    "cut in the middle": of_bytes(lambda data: data[: len(data) // 2]),
    "cut in the last id": of_bytes(lambda data: data[: data.rindex(b",") - 3]),
    "cut before the last cell": of_bytes(lambda data: data[: data.rindex(b",") + 1]),
    "cut two bytes before the end": of_bytes(lambda data: data[:-2]),
    "first half missing": of_bytes(lambda data: data[len(data) // 2 :]),
    "block in the middle missing": of_bytes(lambda data: data[:300] + data[600:]),
    "block in the middle doubled": of_bytes(lambda data: data[:600] + data[300:]),
    "block of NUL bytes": of_bytes(lambda data: data[:300] + bytes(300) + data[600:]),
    "end of NUL bytes": of_bytes(lambda data: data[:-300] + bytes(300)),
    "NUL bytes appended": of_bytes(lambda data: data + bytes(64)),
    "file of NUL bytes": of_bytes(lambda data: bytes(len(data))),
    "end-of-file character appended": of_bytes(lambda data: data + b"\x1a"),
    "two files joined": of_bytes(lambda data: data + data),
    "file of another run joined": of_bytes(lambda data: data + data.replace(b"TEST", b"VAL")),
    "one bit flipped": of_bytes(flipped_bit),
    "highest bit of a byte set": of_bytes(lambda data: data[:40] + bytes([data[40] | 128]) + data[41:]),
    "Latin-1 letter": of_bytes(lambda data: data.replace(b"T", b"\xc4", 1)),
    "UTF-8 of a surrogate": of_bytes(lambda data: data.replace(b"T", b"\xed\xa0\x80", 1)),
    "overlong UTF-8": of_bytes(lambda data: data.replace(b",", b"\xc0\xac", 1)),
}

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
