"""What a frozen vision tower makes of each picture, computed once and kept on disk for all runs."""

from mixtune.data.features.encoding import FeatureCollator
from mixtune.data.features.keys import picture_key, space_key
from mixtune.data.features.store import FeatureStore

__all__ = ["FeatureCollator", "FeatureStore", "picture_key", "space_key"]
