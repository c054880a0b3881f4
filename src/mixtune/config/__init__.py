"""Settings of every component, recipes in and out of YAML, and the wording shared by all errors."""

from mixtune.config.errors import ConfigError, near
from mixtune.config.files import write_atomic, writing_error
from mixtune.config.places import expand_path, mixtune_home, movable_path
from mixtune.config.portable import portable
from mixtune.config.recipe import dump_recipe, load_recipe
from mixtune.config.settings import (
    AdapterSettings,
    DataSettings,
    ModelSettings,
    Recipe,
    Settings,
    SourceSettings,
    TrainSettings,
)

__all__ = [
    "AdapterSettings",
    "ConfigError",
    "DataSettings",
    "ModelSettings",
    "Recipe",
    "Settings",
    "SourceSettings",
    "TrainSettings",
    "dump_recipe",
    "expand_path",
    "load_recipe",
    "mixtune_home",
    "movable_path",
    "near",
    "portable",
    "write_atomic",
    "writing_error",
]
