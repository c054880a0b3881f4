"""Samples too long for a run, found before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from mixtune.data.checks import check_bad
from mixtune.data.collate import Encoder
from mixtune.data.progress import progress
from mixtune.data.sample import BadSample, Sample, SampleError


def fit_samples(
    samples: Sequence[Sample], encoder: Encoder, max_bad: int, bad: Sequence[BadSample] = ()
) -> tuple[list[Sample], list[BadSample]]:
    """Samples that `encoder` can encode, and `bad` with the others added.

    Texts are tokenized and image tokens counted from the image sizes; no image is decoded. DataError, which
    lists them, when more than `max_bad` are unreadable, those in `bad` included.
    """
    good, found = [], list(bad)
    for sample in progress(samples, "measuring samples", len(samples)):
        try:
            encoder.measure(sample)
        except SampleError as error:
            found.append(BadSample(sample.origin, error.field, "", error.reason))
        else:
            good.append(sample)
    check_bad(found, max_bad)
    return good, found
