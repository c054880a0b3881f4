import pytest

from mixtune.data import DataError, ImageRef
from mixtune.data.features.keys import picture_key, space_key


def test_equal_files_are_one_picture_whatever_they_are_called(tmp_path):
    for name, content in (("a.png", b"one"), ("b.png", b"one"), ("c.png", b"two")):
        (tmp_path / name).write_bytes(content)
    first, same, other = (ImageRef(str(tmp_path / name)) for name in ("a.png", "b.png", "c.png"))
    assert picture_key(first) == picture_key(same) != picture_key(other)
    assert picture_key(ImageRef("row 7", lambda: b"one")) == picture_key(first)
    assert picture_key(ImageRef("row 7", lambda: b"two")) == picture_key(other)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: the image cannot be read"):
        picture_key(ImageRef(str(tmp_path / "gone.png")))


def test_a_space_is_its_facts_in_any_order():
    assert space_key({"tower": "x", "size": [28, 28]}) == space_key({"size": [28, 28], "tower": "x"})
    assert space_key({"tower": "x", "size": [28, 28]}) != space_key({"tower": "x", "size": [28, 29]})
