"""Masks and sizes that belong to the test images, or are refused before a submission is written."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from lib.dataset import image_files, layout
from lib.errors import Fault, InputError, attempt, raise_faults
from lib.parallel import in_threads

_TOLERANCE = 0.01  # relative difference of two proportions that passes for the same


def image_sizes(data: str | Path) -> dict[str, tuple[int, int]]:
    """Return the (width, height) of each test image by its id; raise InputError for missing or damaged ones."""
    items = layout.read_split(data, "test")
    faults: list[Fault] = []
    sizes = in_threads(lambda item: attempt(faults, image_files.image_size, item.image), items, "image sizes")
    raise_faults(data, sorted(faults, key=str))
    return dict(zip((item.id for item in items), sizes, strict=True))


def check_masks(masks: str | Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Check that ``masks`` holds one PNG per test image, in its size, and no other's; the pixels are not read.

    ``sizes``: see :func:`image_sizes`. Hidden files are ignored.

    Raises:
        InputError: names the masks that are missing, superfluous, damaged, or of another size or format.
    """
    masks = Path(masks)
    faults: list[Fault] = []
    for path in sorted(masks.iterdir()):
        if path.suffix == ".png" and not path.name.startswith(".") and path.stem not in sizes:
            remedy = "Remove it, or pass the data set that the masks were made from."
            faults.append(Fault(path, "a mask of no image in test.csv", remedy))
        elif path.suffix not in (".png", ".yaml", ".json") and path.stem in sizes:
            faults.append(Fault(path, "not a .png file", "Convert it to a PNG of class ids."))

    def compare(image_id: str) -> None:
        path, (width, height) = masks / f"{image_id}.png", sizes[image_id]
        if not path.exists():
            raise InputError(Fault(path, "not found", "Run 03_infer again; it adds the missing masks."))
        mask = image_files.image_size(path)
        if mask != (width, height):
            found = f"{mask[0]}×{mask[1]}, but its image is {width}×{height}"
            raise InputError(Fault(path, found, "Give it the image's size, or run 03_infer again."))

    in_threads(lambda image_id: attempt(faults, compare, image_id), list(sizes), "mask sizes")
    raise_faults(masks, sorted(faults, key=str))


def check_proportions(size: tuple[int, int], images: Iterable[tuple[int, int]]) -> None:
    """Raise InputError if masks of the images' sizes would be stretched to ``size``; sizes are (width, height)."""
    for image in filter(lambda image: _is_stretched(size, image), images):
        better = size[::-1] if not _is_stretched(size[::-1], image) else (size[0], round(size[0] * image[1] / image[0]))
        found = f"{size[0]}×{size[1]}, but test images are {image[0]}×{image[1]}"
        expected = f"(expected: the same proportions, such as {better[0]}×{better[1]})"
        remedy = f"Pass submission_size={list(better)}, or stretch_masks=True (-p stretch_masks true)."
        raise InputError(Fault("submission_size", f"{found} {expected}", remedy))


def _is_stretched(size: tuple[int, int], image: tuple[int, int]) -> bool:
    rounded = max(image)  # the effect of one pixel in a side of ``size``
    return abs(size[0] * image[1] - size[1] * image[0]) > max(rounded, _TOLERANCE * size[1] * image[0])
