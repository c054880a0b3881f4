"""What a run ran on: versions, device, threads. Recorded beside every result and printed by `mixtune env`."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from mixtune.config import mixtune_home

PACKAGES = ("mixtune", "torch", "transformers", "peft", "accelerate", "datasets")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe_environment() -> dict[str, str]:
    """Versions, system, device, threads and the cache folder, as text."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        **versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(torch.get_num_threads()),
        "home": str(mixtune_home()),
    }
