"""Masks and sizes that belong to the test images, or are refused before a submission is written."""

from collections.abc import Iterable
from pathlib import Path

from lib.dataset import image_files, layout
from lib.errors import Fault, InputError, attempt, raise_faults
from lib.parallel import in_threads

_TOLERANCE = 0.01  # relative difference of two proportions that passes for the same


def check_masks(masks: str | Path, data: str | Path) -> set[tuple[int, int]]:
    """Check that ``masks`` holds one PNG of its size per test image, and no other's; return the sizes (width, height).

    The pixels are not read. Hidden files are ignored.

    Raises:
        InputError: names the masks that are missing, superfluous, damaged, or of another size or format.
    """
    masks, items, faults = Path(masks), layout.read_split(data, "test"), []
    ids = {item.id for item in items}
    for path in sorted(masks.iterdir()):
        if path.suffix == ".png" and not path.name.startswith(".") and path.stem not in ids:
            found = f"a mask without an image in {Path(data) / 'test.csv'}"
            faults.append(Fault(path, found, "Remove it, or pass the data set that the masks were made from."))
        elif path.suffix not in (".png", ".yaml", ".json") and path.stem in ids:
            faults.append(Fault(path, "not a .png file", "Convert it to a PNG of class ids."))

    def image_size(item: layout.Item) -> tuple[int, int]:
        image, path = image_files.image_size(item.image), masks / f"{item.id}.png"
        if not path.exists():
            raise InputError(Fault(path, "not found", "Run 03_infer again; it adds the missing masks."))
        if (mask := image_files.image_size(path)) != image:
            found = f"{mask[0]}×{mask[1]}, but its image {item.image.name} is {image[0]}×{image[1]}"
            raise InputError(Fault(path, found, "Give it the image's size, or run 03_infer again."))
        return image

    sizes = in_threads(lambda item: attempt(faults, image_size, item), items, "sizes")
    raise_faults(masks, sorted(faults, key=str))
    return set(sizes)


def check_proportions(size: tuple[int, int], images: Iterable[tuple[int, int]]) -> None:
    """Raise InputError if masks of the images' sizes would be stretched to ``size``; sizes are (width, height)."""
    for image in filter(lambda image: _is_stretched(size, image), images):
        better = size[::-1] if not _is_stretched(size[::-1], image) else (size[0], round(size[0] * image[1] / image[0]))
        found = f"{size[0]}×{size[1]}, but test images are {image[0]}×{image[1]}"
        expected = f"(expected: the same proportions, such as {better[0]}×{better[1]})"
        remedy = f"Pass {list(better)}, or stretch_masks=True to stretch the masks."
        raise InputError(Fault("submission_size", f"{found} {expected}", remedy))


def _is_stretched(size: tuple[int, int], image: tuple[int, int]) -> bool:
    rounded = max(image)  # the effect of one pixel in a side of ``size``
    return abs(size[0] * image[1] - size[1] * image[0]) > max(rounded, _TOLERANCE * size[1] * image[0])
