"""Mean and standard deviation of the vision encoder's numbers over pocket pictures, by which its tokens are standardised."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mixtune.pocket.model import PICTURE_SETTINGS, vision_tower
from mixtune.pocket.vision import PocketVisionModel

SMALLEST_STD = 1e-3


@torch.inference_mode()
def feature_statistics(tower: PocketVisionModel, pictures: list[Path], *, batch_size: int = 64) -> dict[str, Tensor]:
    """``feature_mean`` and ``feature_std`` ``[feature_size]`` over all pictures and grid places, accumulated in float64.

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


def write_feature_statistics(vision_wheel: Path, data: Path, target: Path, *, count: int = 2000) -> None:
    """Compute the statistics over the first ``count`` training pictures of a pocket data folder and write them as safetensors."""
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    pictures = [data / json.loads(line)["images"][0] for line in lines]
    save_file(feature_statistics(vision_tower(vision_wheel, None), pictures), target, metadata={"format": "pt"})
