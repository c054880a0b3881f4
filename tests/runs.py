"""Recipes on the tiny model, for the tests of training."""

from pathlib import Path
from typing import Any

import torch

import tiny
from mixtune.config import ModelSettings, Recipe
from mixtune.training.loading import MODEL_BUILDERS


def build_tiny(settings: ModelSettings):
    model, processor = tiny.tiny_llava()
    return model.to(getattr(torch, settings.dtype)), processor


MODEL_BUILDERS["tiny"] = build_tiny


def tiny_recipe(
    data: Path, output_dir: Path, *, adapter: Any = "mixlora", dtype: str = "float32", **train: Any
) -> Recipe:
    """A recipe of a few steps; `adapter` is a preset, settings, or None for stage align."""
    settings = {
        "output_dir": str(output_dir),
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_steps": 3,
        "logging_steps": 2,
        "num_train_epochs": 2,
        "stage": "tune" if adapter else "align",
        **train,
    }
    return Recipe.model_validate(
        {
            "model": {"name_or_path": "tiny", "dtype": dtype},
            "data": {"sources": [{"path": str(data)}], "sampling": "equal"},
            "adapter": {"preset": adapter} if isinstance(adapter, str) else adapter,
            "train": settings,
        }
    )
