"""Batches with stored features differ from those with pixels in the pictures alone; where one misses, pixels return."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from mixtune.config import DataSettings
from mixtune.data import Collator, Encoder, read_samples
from mixtune.data.features import FeatureCollator, FeatureStore, picture_key
from mixtune.data.sample import Message, Sample, SampleError


@pytest.fixture
def made(tiny_llava, tiny_samples, tmp_path):
    """(collator, the same with features, samples): features of a picture are 4 x 3 numbers that name it."""
    samples = read_samples(DataSettings(sources=({"path": str(tiny_samples(6))},)))[0]
    store = FeatureStore(tmp_path / "features", "space", 10**9)
    with store.filling():
        for number, sample in enumerate(samples[:4]):
            store.add(picture_key(sample.images[0]), torch.full((4, 3), float(number)))
    plain = Collator(Encoder(tiny_llava()[1]), ("colour", "count", "yesno"))
    return plain, FeatureCollator(plain, store), samples


def several(*samples: Sample) -> Sample:
    """One sample with the pictures of these."""
    images = tuple(sample.images[0] for sample in samples)
    messages = (Message("user", "<image>" * len(images) + "which?"), Message("assistant", "red"))
    return Sample(id="several", messages=messages, images=images, task="colour", origin="here")


def test_all_but_the_pictures_is_as_ever(made):
    plain, featured, samples = made
    chosen = [samples[2], several(samples[3], samples[1]), samples[0]]
    expected, found = plain(chosen), featured(chosen)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected if name != "pixel_values")
    assert expected["pixel_values"].shape == (4, 3, 28, 28)
    assert found["pixel_values"].shape == (4, 4, 3)
    assert found["pixel_values"][:, 0, 0].tolist() == [2, 3, 1, 0]


def test_pictures_are_not_decoded(made, monkeypatch):
    _, featured, samples = made
    featured(samples[:2])  # an image's tokens are asked of the processor once for each size
    monkeypatch.setattr("mixtune.data.collate.load_image", lambda ref: pytest.fail("decoded"))
    featured(samples[:4])


def test_text_alone_has_no_pictures(made):
    plain, featured, _ = made
    messages = (Message("user", "what colour?"), Message("assistant", "red"))
    text = Sample(id="text", messages=messages, images=(), task="colour", origin="here")
    found = featured([text])
    assert "pixel_values" not in found and torch.equal(found["input_ids"], plain([text])["input_ids"])


@pytest.mark.parametrize("harm", ["another file", "another colour"])
def test_a_batch_with_a_picture_without_features_has_pixels(made, harm):
    plain, featured, samples = made
    chosen = [samples[0], samples[1]]
    path = Path(samples[1].images[0].path)
    if harm == "another file":
        path.write_bytes(path.read_bytes() + b"more")  # after the picture's end: the pixels stay
    else:
        Image.new("RGB", (32, 32), (1, 2, 3)).save(path)
    found, expected = featured(chosen), plain(chosen)
    assert found["pixel_values"].shape == (2, 3, 28, 28)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_unreadable_picture_is_an_error_of_its_sample(made):
    _, featured, samples = made
    Path(samples[0].images[0].path).unlink()
    with pytest.raises(SampleError, match=r"samples\.jsonl:1: images: .*0\.png"):
        featured(samples[:1])


def test_workers_read_for_themselves(made):
    _, featured, samples = made
    loader = torch.utils.data.DataLoader(samples[:4], 2, collate_fn=featured, num_workers=1)
    batches = list(loader)
    assert [batch["pixel_values"][:, 0, 0].tolist() for batch in batches] == [[0, 1], [2, 3]]
