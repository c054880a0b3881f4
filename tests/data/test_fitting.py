"""Samples that are too long are found before a run, count against max_bad and are listed."""

import dataclasses

import pytest

import tiny
from mixtune.config import DataSettings, SourceSettings
from mixtune.data.collate import Encoder
from mixtune.data.fitting import fit_samples
from mixtune.data.readers import read_samples
from mixtune.data.sample import BadSample, DataError, Message


@pytest.fixture
def samples(tiny_samples):
    return read_samples(DataSettings(sources=(SourceSettings(path=str(tiny_samples(4))),)))[0]


def test_long_samples_are_left_out_up_to_the_limit(samples):
    turns = (samples[1].messages[0], Message("assistant", "yes " * 40))
    given = [samples[0], dataclasses.replace(samples[1], messages=turns, origin="d.json:2"), *samples[2:]]
    encoder = Encoder(tiny.tiny_processor(), 30)
    before = BadSample("d.json:1", "line", "{", "is not JSON")
    good, bad = fit_samples(given, encoder, 2, [before])
    assert good == [samples[0], *samples[2:]]
    assert bad[0] == before
    assert str(bad[1]) == (
        "d.json:2: answer: 57 tokens (answers 41) are more than data.max_length 30; "
        "raise data.max_length or shorten the sample"
    )
    with pytest.raises(
        DataError, match=r"2 unreadable sample\(s\); .* allows 1:\nd.json:1: line: .*\nd.json:2: answer"
    ):
        fit_samples(given, encoder, 1, [before])


def test_no_picture_is_decoded(samples, monkeypatch):
    monkeypatch.setattr("mixtune.data.collate.load_image", None)
    assert fit_samples(samples, Encoder(tiny.tiny_processor()), 0) == (samples, [])
