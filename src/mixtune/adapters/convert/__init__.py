"""Released checkpoints of both founding papers, converted into adapters that peft and mixtune load."""

from mixtune.adapters.convert.conversion import Conversion
from mixtune.adapters.convert.released import convert_released
from mixtune.adapters.convert.settings import ReleasedSettings

__all__ = ["Conversion", "ReleasedSettings", "convert_released"]
