"""Image references: what is loaded, and what the error says when it cannot be."""

import io

import pytest
from PIL import Image

from mixtune.data.sample import BadSample, DataError, ImageRef, SampleError, image_size, load_image


@pytest.fixture
def picture(tmp_path):
    """A palette picture, 5 wide and 3 high."""
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 3), (0, 0, 255)).convert("P").save(path)
    return path


def test_a_file_is_loaded_as_rgb(picture):
    image = load_image(ImageRef(str(picture)))
    assert (image.mode, image.size) == ("RGB", (5, 3))
    assert image_size(ImageRef(str(picture))) == (5, 3)


def test_exif_orientation_is_applied_and_the_size_agrees(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, 3)).save(path, exif=exif)
    ref = ImageRef(str(path))
    assert load_image(ref).size == image_size(ref) == (3, 5)


def test_bytes_are_fetched_when_they_are_wanted(picture):
    ref = ImageRef("table[0].image", read=picture.read_bytes)
    assert load_image(ref).size == image_size(ref) == (5, 3)
    assert str(ref) == "table[0].image"


def test_missing_truncated_and_foreign_files_are_named(picture, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.png: there is no such image file"):
        load_image(ImageRef(str(tmp_path / "nowhere.png")))
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(stream.getvalue()[:600])
    with pytest.raises(DataError, match=r"cut\.jpg: the image cannot be decoded \(.*truncated"):
        load_image(ImageRef(str(cut)))
    text = tmp_path / "text.png"
    text.write_text("hello")
    for read in (load_image, image_size):
        with pytest.raises(DataError, match=r"text\.png: the image cannot be"):
            read(ImageRef(str(text)))


def test_messages_of_errors_and_bad_samples():
    error = SampleError("a.json:3", "images", "two are missing")
    assert (str(error), error.field, error.reason) == (
        "a.json:3: images: two are missing",
        "images",
        "two are missing",
    )
    assert str(type(error)("rebuilt from its message")) == "rebuilt from its message"
    assert str(BadSample("a.json:3", "task", "''", "is empty")) == "a.json:3: task: '' is empty"
    assert str(BadSample("a.json:3", "answer", "", "is long")) == "a.json:3: answer: is long"
