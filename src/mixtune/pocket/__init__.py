"""A small real vision-language model with real tasks that needs no model
hub. Importing it makes its classes known to transformers.
"""

from mixtune.pocket.prepare import PocketPaths, prepare_mix, prepare_pocket, resolve
from mixtune.pocket.vision import PocketVisionConfig, PocketVisionModel

__all__ = ["PocketPaths", "PocketVisionConfig", "PocketVisionModel", "prepare_mix", "prepare_pocket", "resolve"]
