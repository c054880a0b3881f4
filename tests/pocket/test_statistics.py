"""The statistics by which image tokens are standardised."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from mixtune.pocket.statistics import SMALLEST_STD, feature_statistics
from mixtune.pocket.vision import PocketVisionConfig, PocketVisionModel


def test_standardised_tokens_have_mean_zero_and_deviation_one(tmp_path) -> None:
    torch.manual_seed(0)
    tower = PocketVisionModel(PocketVisionConfig()).eval()
    rng, pictures = np.random.default_rng(0), []
    for number in range(5):
        pictures.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(pictures[-1])
    found = feature_statistics(tower, pictures, batch_size=2)
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in pictures])
    with torch.no_grad():
        numbers = tower.maps((pixels.float() - 127) / 128).flatten(0, 1)
    torch.testing.assert_close(found["feature_mean"], numbers.mean(0), atol=1e-4, rtol=1e-3)
    expected = numbers.std(0, correction=0).clamp_min(SMALLEST_STD)
    torch.testing.assert_close(found["feature_std"], expected, atol=1e-4, rtol=1e-2)
