"""Bad and odd tables and data sets: each is refused in plain words, warned of, or accepted."""

import csv
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.dataset import image_files, layout
from lib.dataset.classes import IGNORE
from lib.submission.score import score_submission
from tests.faults.cases import Cases
from tests.faults.image_builder import (
    COLOURS,
    HEIGHT,
    LABEL,
    PHOTO,
    WIDTH,
    data_set,
    ids,
    palette_chunk,
    photo,
    png,
    write,
)
from tests.faults.outcome import refused

CASES = Cases()


# Tables


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def cell(folder: Path, split: str, column: int, value: str) -> None:
    """Replace a cell of the first row of a split's table."""
    header, first, *others = rows_of(folder / f"{split}.csv")
    first[column] = value
    layout.write_table(folder / f"{split}.csv", header, [first, *others])


IDS = (
    ("..", "..", "plain file name"),
    (".", ".", "plain file name"),
    ("in a folder", "a/b", "plain file name"),
    ("absolute", "/a", "plain file name"),
    ("hidden", ".a", "plain file name"),
    ("of a Mac's companion file", "._a", "plain file name"),
    ("of 300 characters", "a" * 300, "plain file name"),
    ("of 252 bytes", "é" * 126, "plain file name"),
    ("with a newline", "a\nb", "control character"),
    ("with a carriage return", "a\rb", "blank cell"),
    ("with a tab", "a\tb", "control character"),
    ("with an escape sequence", "\x1b[2J", "control character"),
    ("blank", "", "blank cell"),
    ("twice", "train_target_1", "in 2 rows"),
)
PATHS = (
    ("/dev/zero", "/dev/zero", "a device"),
    ("/dev/stdin", "/dev/stdin", ""),
    ("the folder", ".", "a folder"),
    ("the table itself", "train_target.csv", "not an image"),
    ("with a newline", "image/\n.png", "control character"),
    ("of 5000 characters", "a" * 5000, "cannot be read"),
    ("of a name of 300 characters", "a" * 300 + ".png", "cannot be read"),
    ("in a file", "train_target.csv/a.png", "cannot be read"),
    ("missing", "image/none.png", "not found"),
    ("blank", "", "blank cell"),
    ("with blanks around", " image/train_target_0.png ", "not found"),
    ("with backslashes", ".\\image\\train_target_0.png", "not found"),
    ("with a home folder", "~/a.png", "not found"),
    ("an address", "https://example.org/a.png", "not found"),
)
for column, kind, values in ((0, "id", IDS), (1, "path", PATHS)):
    for name, value, naming in values:

        @CASES.register(f"{kind} {name}")
        def odd_cell(folder: Path, column=column, value=value, naming=naming) -> None:
            cell(data_set(folder), "train_target", column, value)
            refused(layout.check, folder, naming=naming)


for name, content, naming in (
    ("empty", b"", "No columns"),
    ("of a header alone", b"id,img_path\n", "no rows"),
    ("with another column", b"id,file\na,b\n", "img_path"),
    ("with semicolons", b"id;img_path\na;b\n", "id;img_path"),
    ("with tabs", b"id\timg_path\na\tb\n", "only the columns"),
    ("in UTF-16", "id,img_path\na,b\n".encode("utf-16"), "train_target.csv"),
    ("with a NUL in a cell", b"id,img_path\na\0b,image/train_target_0.png\n", "train_target.csv"),
    ("with a NUL in a path", b"id,img_path\na,image/\0.png\n", ""),
    ("of NULs", bytes(100), "train_target.csv"),
    ("with an open quote", b'id,img_path\n"a,b\n', "train_target.csv"),
    ("with a longer row", b"id,img_path\na,b\nc,d,e\n", "train_target.csv"),
    ("with a shorter row", b"id,img_path\na\n", "blank cell"),
    ("that is a PNG", png(LABEL), "train_target.csv"),
    ("in Latin-1", "id,img_path\né,b\n".encode("latin-1"), "train_target.csv"),
    ("with upper-case columns", b"ID,IMG_PATH\na,b\n", "only the columns"),
):

    @CASES.register(f"table {name}")
    def odd_table(folder: Path, content=content, naming=naming) -> None:
        write(data_set(folder) / "train_target.csv", content)
        refused(layout.check, folder, naming=naming)


# Whole sets


def replaced(name: str, content: bytes, naming: str) -> None:
    """Register a set whose first training label has this content."""

    @CASES.register(f"set: {name}")
    def set_refused(folder: Path) -> None:
        write(data_set(folder) / "gt" / "train_source_0.png", content)
        refused(layout.check, folder, naming=naming)


replaced("a label of another size", png(ids(0, WIDTH, HEIGHT - 1)), "16×11, but its image train_source_0.png is 16×12")
replaced("a label turned by 90 degrees", png(LABEL.T.copy()), "12×16, but its image")
replaced("a label with value 12", png(LABEL + 1), "label value 12")
replaced("a label of 0 and 255, of a mask", png(ids(0, most=2) * 200), "label value 200")
replaced("a label that is its image", png(PHOTO, 8, 2), "RGB pixels")


def palette_set(folder: Path, first: list, second: list, labels: tuple[np.ndarray, np.ndarray]) -> Path:
    data_set(folder)
    for i, (colours, label) in enumerate(zip((first, second), labels, strict=True)):
        write(folder / "gt" / f"train_source_{i}.png", png(label, 8, 3, before=palette_chunk(colours)))
    return folder


@CASES.register("set: palettes in the order of first appearance")
def palettes_differ(folder: Path) -> None:
    palette_set(folder, COLOURS, COLOURS[::-1], (ids(0), ids(1)))
    refused(layout.check, folder, naming="train_source_1.png: palette colour")


@CASES.register("set: palettes that give a colour two ids")
def colours_move(folder: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8), np.ones((HEIGHT, WIDTH), np.uint8)
    palette_set(folder, [COLOURS[5], COLOURS[6]], [COLOURS[6], COLOURS[5]], labels)
    refused(layout.check, folder, naming="at index 0 in train_source_0.png")


@CASES.register("set: one palette for all is fine")
def one_palette(folder: Path) -> None:
    report = layout.check(palette_set(folder, COLOURS, COLOURS, (ids(0), ids(1))))
    assert "no faults" in str(report)


def labels(folder: Path, *values: int, split: str = "train_source") -> None:
    """Replace labels of a split by ones of a single value."""
    for i, value in enumerate(values):
        write(folder / "gt" / f"{split}_{i}.png", png(np.full((HEIGHT, WIDTH), value)))


@CASES.register("set: training labels of 255 alone")
def unlabelled_set(folder: Path) -> None:
    labels(data_set(folder), IGNORE, IGNORE)
    refused(layout.check, folder, naming="every pixel of every label is 255")


def warned(name: str, change: Callable[[Path], object], naming: str) -> None:
    """Register a set that is sound, but of which the report has to say ``naming``."""

    @CASES.register(f"set: {name}")
    def warn(folder: Path) -> None:
        change(data_set(folder))
        assert naming in str(layout.check(folder)), str(layout.check(folder))


def copy(folder: Path, source: str, to: str) -> None:
    write(folder / to, (folder / source).read_bytes())


warned("a label of 255 alone", lambda folder: labels(folder, 255), "labels that hold 255 alone: train_source_0")
warned("labels of one class", lambda folder: labels(folder, 0, 0), "all labels hold Road alone")
warned("a class that never occurs", lambda folder: labels(folder, 0, 1), "never occur: Construction, Fence")
warned("class shares", lambda folder: labels(folder, 0, 255), "Road 0.500")
warned(
    "a validation image among the training images",
    lambda folder: copy(folder, "image/train_source_0.png", "image/val_source_1.png"),
    "training images are among the validation's: val_source_1",
)
warned(
    "an image twice",
    lambda folder: copy(folder, "image/test_0.png", "image/test_1.png"),
    "test: images that occur twice: test_1 = test_0",
)
warned(
    "validation labels of 255 alone",
    lambda folder: labels(folder, 255, 255, split="val_source"),
    "val_source: all labels hold 255 alone",
)


def deep(folder: Path, factor: int, images: int = 2) -> Path:
    """Replace target images by 16-bit ones."""
    data_set(folder)
    for i in range(images):
        samples = photo(i).astype(np.uint16) * factor
        write(folder / "image" / f"train_target_{i}.png", png(samples, 16, 2))
    return folder


for name, factor in (("8", 1), ("10", 4), ("12", 16), ("14", 64)):

    @CASES.register(f"set: values of {name} bits in 16-bit images")
    def dark(folder: Path, factor=factor) -> None:
        refused(layout.check, deep(folder, factor), naming="no image of train_target has a value above")


@CASES.register("set: values of 12 bits in opaque 16-bit images")
def dark_and_opaque(folder: Path) -> None:
    deep(folder, 16)
    for i in range(2):
        samples = np.dstack([photo(i).astype(np.uint16) * 16, np.full((HEIGHT, WIDTH), 65535, np.uint16)])
        write(folder / "image" / f"train_target_{i}.png", png(samples, 16, 6))
    refused(layout.check, folder, naming="no image of train_target has a value above")


@CASES.register("set: 16-bit images of the full range are fine")
def bright(folder: Path) -> None:
    assert "no faults" in str(layout.check(deep(folder, 257)))


@CASES.register("set: a Mac's decomposed names, composed ones in the table")
def decomposed(folder: Path) -> None:
    data_set(folder)
    name = "Straße é/Bild ü.png"
    write(folder / unicodedata.normalize("NFD", name), (folder / "image" / "train_target_0.png").read_bytes())
    cell(folder, "train_target", 1, unicodedata.normalize("NFC", name))
    assert "no faults" in str(layout.check(folder))
    assert layout.read_split(folder, "train_target")[0].image.is_file()


@CASES.register("set: composed names, decomposed ones in the table")
def composed(folder: Path) -> None:
    data_set(folder)
    write(folder / unicodedata.normalize("NFC", "é.png"), (folder / "image" / "train_target_0.png").read_bytes())
    cell(folder, "train_target", 1, unicodedata.normalize("NFD", "é.png"))
    assert "no faults" in str(layout.check(folder))


@CASES.register("set: absolute paths are fine")
def absolute(folder: Path) -> None:
    data_set(folder)
    cell(folder, "train_target", 1, str(folder / "image" / "train_target_0.png"))
    assert "no faults" in str(layout.check(folder))


@CASES.register("set: a Mac's companion files beside labels")
def companions(folder: Path) -> None:
    row = np.zeros((1, 4), np.uint8)
    image_files.write_png(folder / "labels" / "A.png", row)
    write(folder / "labels" / "._A.png", b"\0\5\x16\7" + bytes(100))
    rows = [(i, "1 4" if i.endswith("_0") else "-1") for i in layout.row_ids(["A"])]
    layout.write_table(folder / "submission.csv", ("id", "mask_rle"), rows)
    assert score_submission(folder / "submission.csv", folder / "labels", (4, 1))["Road"] == 1


@CASES.register("set: a missing row of the sample submission")
def sample_row(folder: Path) -> None:
    path = data_set(folder) / layout.SAMPLE_SUBMISSION
    layout.write_table(path, ("id", "mask_rle"), rows_of(path)[2:])
    refused(layout.check, folder, naming="no row test_0_class_0")
