"""Images decoded once, with verdicts kept between runs; and the limit on samples left out."""

import json
import os

import pytest
from PIL import Image

from mixtune.data import checks
from mixtune.data.sample import BadSample, DataError, ImageRef, Message, Sample


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def sample_with(*paths) -> Sample:
    turns = (Message("user", "<image>" * len(paths)), Message("assistant", "a"))
    return Sample("s", turns, tuple(ImageRef(str(path)) for path in paths), "t", origin="d.json:1")


@pytest.fixture
def files(tmp_path):
    """A sound picture, one cut in the middle, and one that is not there."""
    good, cut = tmp_path / "picture1.png", tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(good)
    cut.write_bytes(good.read_bytes()[:2000])
    return good, cut, tmp_path / "pictur1.png"


def test_samples_with_missing_and_truncated_images_are_told_apart_from_sound_ones(files, tmp_path):
    good, cut, missing = files
    lost = tmp_path / "nowhere" / "a.png"
    samples = [
        sample_with(good),
        sample_with(good, cut),
        sample_with(missing),
        sample_with(lost),
        sample_with(),
    ]
    sound, bad = checks.check_images(samples)
    assert sound == [samples[0], samples[4]]
    assert [one.field for one in bad] == ["images[1]", "images[0]", "images[0]"]
    assert str(bad[0]).startswith(f"d.json:1: images[1]: '{cut}' cannot be decoded: ")
    assert str(bad[1]) == f"d.json:1: images[0]: '{missing}' is missing; did you mean 'picture1.png'?"
    assert str(bad[2]) == f"d.json:1: images[0]: '{lost}' is missing; there is no folder '{lost.parent}'"


def test_files_are_decoded_again_only_when_they_changed(files, monkeypatch):
    good, cut, _ = files
    decoded = []
    load = checks.load_image
    monkeypatch.setattr(checks, "load_image", lambda ref: decoded.append(ref.path) or load(ref))
    samples = [sample_with(good), sample_with(cut), sample_with(good)]
    first = checks.check_images(samples)
    assert sorted(decoded) == sorted([str(good), str(cut)])
    assert checks.check_images(samples) == first
    assert len(decoded) == 2
    Image.new("RGB", (9, 9)).save(cut)
    assert checks.check_images(samples) == (samples, [])
    assert decoded[2:] == [str(cut)]


def test_images_inside_a_table_are_checked_and_not_remembered(files, home):
    good, cut, _ = files
    refs = (ImageRef("t[0]", good.read_bytes), ImageRef("t[1]", cut.read_bytes))
    samples = [Sample("s", (), (ref,), "t", origin=ref.path) for ref in refs]
    sound, bad = checks.check_images(samples)
    assert (sound, [one.origin for one in bad]) == ([samples[0]], ["t[1]"])
    assert not home.exists()


def test_a_damaged_store_is_made_anew(files, home):
    home.mkdir()
    for damage in ("{", "[1]"):
        (home / "checked.json").write_text(damage)
        assert checks.check_images([sample_with(files[0])])[1] == []
        assert list(json.loads((home / "checked.json").read_text())) == [str(files[0])]
    assert os.listdir(home) == ["checked.json"]


def test_too_many_bad_samples_are_listed_and_counted():
    bad = [BadSample(f"d.json:{n}", "line", "{", "is not JSON") for n in range(25)]
    checks.check_bad(bad, 25)
    checks.check_bad([], 0)
    with pytest.raises(DataError) as caught:
        checks.check_bad(bad, 24)
    lines = str(caught.value).splitlines()
    assert lines[0] == "25 unreadable sample(s); data.max_bad (--max-bad) allows 24:"
    assert lines[1] == "d.json:0: line: { is not JSON"
    assert lines[-1] == "and 5 more"
    assert len(lines) == 22
