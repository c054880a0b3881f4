"""Batches whose pictures are features that a vision tower made of them earlier.

Letters: N pictures, P image tokens of a picture, F width of the tower's features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mixtune.data.collate import Collator, Encoder
from mixtune.data.features.keys import picture_bytes, picture_key
from mixtune.data.features.store import FeatureStore
from mixtune.data.sample import ImageRef, Sample, image_size
from mixtune.data.tokens import Pictures


class _MissingFeatureError(LookupError):
    """A picture has no sound features (any more): it changed, or its shard was damaged or removed during the run."""


class FeatureEncoder(Encoder):
    """An Encoder whose `pixel_values` are stored features [N, P, F]. No picture is decoded."""

    def __init__(self, encoder: Encoder, store: FeatureStore):
        super().__init__(encoder.processor, encoder.max_length)
        self.store = store

    def _pictures(self, sample: Sample) -> Pictures:
        found = [self._at(sample, self._picture, ref) for ref in sample.images]
        if not found:
            return Pictures([], {})
        return Pictures([ids for ids, _ in found], {"pixel_values": torch.stack([features for _, features in found])})

    def _picture(self, ref: ImageRef) -> tuple[list[int], Tensor]:
        encoded = picture_bytes(ref)
        held = ImageRef(ref.path, lambda: encoded)  # read once, for its name, its size and nothing else
        features = self.store.get(picture_key(held))
        if features is None:
            raise _MissingFeatureError(ref.path)
        return self._writer.blank(image_size(held)), features


class FeatureCollator:
    """A collator of batches with features for pictures; pixels for all of a batch where features of one are missing."""

    def __init__(self, collator: Collator, store: FeatureStore):
        self.collator, self.encoder = collator, FeatureEncoder(collator.encoder, store)

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """As `Collator`, with `pixel_values` [N, P, F] from the store, or [N, C, H, W] as the processor gives them."""
        try:
            encoded = [self.encoder.encode(sample) for sample in samples]
        except _MissingFeatureError:
            return self.collator(samples)
        return self.collator.batch(encoded, samples)
