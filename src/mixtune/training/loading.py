"""Load the frozen base and what was tuned on it; every refusal says which name, file or tensor does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from mixtune.config import ModelSettings, expand_path, near
from mixtune.training.architectures import ARCHITECTURES, Architecture, build_on_meta, find_architecture

__all__ = ["ARCHITECTURES", "MODEL_BUILDERS", "Architecture", "ModelError", "find_architecture", "load_model", "placed"]

Builder = Callable[[ModelSettings], tuple[PreTrainedModel, ProcessorMixin]]

MODEL_BUILDERS: dict[str, Builder] = {}
"""Models with a name of their own instead of a folder or a hub id; `name_or_path` is looked up here first."""


class ModelError(ValueError):
    """The base model of a recipe cannot be loaded."""


def torch_dtype(settings: ModelSettings) -> torch.dtype:
    """The dtype the base is held in."""
    return getattr(torch, settings.dtype)


def local_config(settings: ModelSettings) -> PreTrainedConfig | None:
    """The base's configuration if it is on this machine (folder or hub cache), else None. Nothing is downloaded."""
    if settings.name_or_path in MODEL_BUILDERS:
        return None
    try:
        name = expand_path(settings.name_or_path)
        return AutoConfig.from_pretrained(name, revision=settings.revision, local_files_only=True)
    except (OSError, ValueError):
        return None


def meta_model(settings: ModelSettings) -> PreTrainedModel | None:
    """The base with its real shapes and no weights, from its configuration or the table; None if neither is here."""
    row = find_architecture(settings.name_or_path)
    config = local_config(settings) or (row.config() if row else None)
    return None if config is None else build_on_meta(config)


def load_model(settings: ModelSettings) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The base model in `settings.dtype`, eval mode, every parameter frozen; and its processor.

    Raises ModelError naming `model.name_or_path` where there is no such folder, hub id or built-in name.
    """
    builder = MODEL_BUILDERS.get(settings.name_or_path)
    model, processor = builder(settings) if builder else _load_pretrained(settings)
    model.requires_grad_(False)
    return model.eval(), processor


def placed(model: nn.Module) -> nn.Module:
    """The model on the GPU, where CUDA has one; training moves it there by itself, questions and analyses do not."""
    return model.to("cuda") if torch.cuda.is_available() else model


def _load_pretrained(settings: ModelSettings) -> tuple[PreTrainedModel, ProcessorMixin]:
    name = expand_path(settings.name_or_path)
    try:
        processor = AutoProcessor.from_pretrained(name, revision=settings.revision)
        model = AutoModelForImageTextToText.from_pretrained(
            name,
            revision=settings.revision,
            dtype=torch_dtype(settings),
            attn_implementation=settings.attn_implementation,
        )
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        what = "folder" if Path(name).exists() else "name"
        hint = near(settings.name_or_path, MODEL_BUILDERS)
        raise ModelError(
            f"model.name_or_path: '{settings.name_or_path}' cannot be loaded from that {what}{hint}: {first}"
        ) from error
    return model, processor
