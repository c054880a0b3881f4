"""Mixtures of LoRA as a peft method. Importing this package registers it."""

from mixtune.adapters.breakdown import (
    auxiliary_loss,
    dead_routers,
    factor_parameters,
    router_parameters,
    trainable_breakdown,
)
from mixtune.adapters.centering import center_routers, centers
from mixtune.adapters.presets import PRESETS, Preset
from mixtune.adapters.recording import ForwardRecord, RoutingRecord, record_routing
from mixtune.adapters.settings import MixtureConfig
from mixtune.adapters.tuner import MixtureModel, register

register()

__all__ = [
    "PRESETS",
    "ForwardRecord",
    "MixtureConfig",
    "MixtureModel",
    "Preset",
    "RoutingRecord",
    "auxiliary_loss",
    "center_routers",
    "centers",
    "dead_routers",
    "factor_parameters",
    "record_routing",
    "router_parameters",
    "trainable_breakdown",
]
