"""What a run ran on: versions, device, threads. Recorded beside every result and printed by `mixtune env`."""

from __future__ import annotations

import platform
import resource
import sys
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


def peak_memory() -> dict[str, int]:
    """Bytes this process held at its fullest so far: `host` (resident), and `device` where there is a GPU."""
    unit = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
    found = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        found["device"] = torch.cuda.max_memory_allocated()
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
