"""Image and label files: what is read, what is written, and what is refused."""

import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.dataset import image_files
from lib.errors import InputError
from tests.builders import HEIGHT, WIDTH, classes_label, encoded, photo
from tests.faults.image_builder import ids, png


def test_read_image_is_rgb(tmp_path):
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 0] = 200
    image_files.write_png(tmp_path / "red.png", red)
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "red.png"), red)
    assert cv2.imread(str(tmp_path / "red.png"))[0, 0].tolist() == [0, 0, 200]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jp2"])
def test_read_image_reads_what_opencv_reads(tmp_path, suffix):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), cv2.cvtColor(photo(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 101])
    read = image_files.read_image(path)
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - photo()).max() <= 8


def test_read_image_converts(tmp_path):
    grey = photo()[..., 0]
    stored = {
        "grey": grey,
        "grey16": grey.astype(np.uint16) * 257,
        "colour16": cv2.merge([grey] * 3).astype(np.uint16) * 257,
        "rgba": cv2.merge([grey, grey, grey, 255 - grey]),
    }
    for name, array in stored.items():
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), array)
        np.testing.assert_array_equal(image_files.read_image(path), cv2.merge([grey] * 3), err_msg=name)


def test_orientation_tags_are_ignored(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(photo()).save(tmp_path / "turned.jpg", exif=tag)
    assert image_files.read_image(tmp_path / "turned.jpg").shape == (HEIGHT, WIDTH, 3)


def test_read_label_round_trip(tmp_path):
    image_files.write_png(tmp_path / "label.png", classes_label())
    read = image_files.read_label(tmp_path / "label.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, classes_label())


@pytest.mark.parametrize("bits", [4, 8])
def test_read_label_reads_palette_indices(tmp_path, bits):
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(label).convert("P")
    image.putpalette([(i * 37 + 11) % 256 for i in range(768)])
    image.save(tmp_path / "palette.png", bits=bits)
    np.testing.assert_array_equal(image_files.read_label(tmp_path / "palette.png"), label)


def test_read_label_of_few_bits_is_exact(tmp_path):
    for bits, most in ((1, 2), (2, 4), (4, 12)):
        label = ids(most=most)
        (tmp_path / "few.png").write_bytes(png(label, bits))
        np.testing.assert_array_equal(image_files.read_label(tmp_path / "few.png"), label)


def test_read_label_of_16_bits(tmp_path):
    two = np.array([[0, 255], [255, 0]], np.uint8)
    cv2.imwrite(str(tmp_path / "wide.png"), two.astype(np.uint16))
    np.testing.assert_array_equal(image_files.read_label(tmp_path / "wide.png"), two)
    cv2.imwrite(str(tmp_path / "wide.png"), two.astype(np.uint16) * 300)
    with pytest.raises(InputError, match="label value 10964"):
        image_files.read_label(tmp_path / "wide.png")


def test_read_label_refuses_colours_and_jpeg(tmp_path):
    image_files.write_png(tmp_path / "colours.png", photo())
    with pytest.raises(InputError, match=r"colours.png: RGB pixels \(expected: one channel\)"):
        image_files.read_label(tmp_path / "colours.png")
    cv2.imwrite(str(tmp_path / "label.jpg"), classes_label())
    with pytest.raises(InputError, match="JPEG, which blurs class ids"):
        image_files.read_label(tmp_path / "label.jpg")


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.95, -12, -2])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".progressive.jpg", ".bmp", ".tif", ".webp"])
def test_truncated_images_are_refused(tmp_path, suffix, keep):
    whole = encoded(photo(), suffix[suffix.rindex(".") :], cv2.IMWRITE_JPEG_PROGRESSIVE, int("progressive" in suffix))
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: keep if keep < 0 else int(len(whole) * keep)])
    with pytest.raises(InputError, match="empty|truncated"):
        image_files.read_image(path)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95, -12, -2])
def test_truncated_labels_are_refused(tmp_path, keep):
    whole = encoded(classes_label())
    path = tmp_path / "cut.png"
    path.write_bytes(whole[: keep if keep < 0 else int(len(whole) * keep)])
    with pytest.raises(InputError, match="empty|truncated"):
        image_files.read_label(path)


def test_thumbnail_does_not_pass_for_the_end_of_a_jpeg(tmp_path):
    whole = encoded(photo(), ".jpg")
    thumbnail = encoded(photo(1)[::4, ::4], ".jpg")
    comment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    path = tmp_path / "photo.jpg"
    path.write_bytes(whole[:2] + comment + whole[2:])
    assert image_files.read_image(path).shape == (HEIGHT, WIDTH, 3)
    path.write_bytes((whole[:2] + comment + whole[2:])[:-40])
    with pytest.raises(InputError, match="truncated JPEG"):
        image_files.read_image(path)


def test_bytes_behind_the_end_are_fine(tmp_path):
    for suffix in (".png", ".jpg"):
        (tmp_path / f"tail{suffix}").write_bytes(encoded(photo(), suffix) + bytes(100))
        assert image_files.read_image(tmp_path / f"tail{suffix}").shape == (HEIGHT, WIDTH, 3)


def test_damaged_png_is_refused(tmp_path):
    damaged = bytearray(encoded(photo()))
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.png").write_bytes(damaged)
    with pytest.raises(InputError, match="damaged PNG .wrong checksum"):
        image_files.read_image(tmp_path / "damaged.png")


def test_missing_and_foreign_files(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    for read in (image_files.read_image, image_files.read_label):
        with pytest.raises(InputError, match=r"nowhere.png: not found"):
            read(tmp_path / "nowhere.png")
        with pytest.raises(InputError, match="not an image"):
            read(tmp_path / "text.png")
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path)


def test_errors_survive_worker_processes(tmp_path):
    with pytest.raises(InputError) as caught:
        image_files.read_image(tmp_path / "nowhere.png")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_write_png_leaves_nothing_when_it_fails(tmp_path):
    with pytest.raises(cv2.error):
        image_files.write_png(tmp_path / "bad.png", np.zeros((2, 2, 2), np.uint8))
    assert not list(tmp_path.iterdir())
    image_files.write_png(tmp_path / "new" / "good.png", photo())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["good.png"]


def test_an_uncompressed_png_is_larger_and_reads_the_same(tmp_path):
    for name, compress in (("small", True), ("large", False)):
        image_files.write_png(tmp_path / f"{name}.png", photo(), compress)
        assert (image_files.read_image(tmp_path / f"{name}.png") == photo()).all()
    small, large = ((tmp_path / f"{name}.png").stat().st_size for name in ("small", "large"))
    assert large > small and large > photo().nbytes
