"""Which factors or experts the tasks used: dead share, how much a layer tells tasks apart, overlap between tasks.

Legend: S two sides (0 for A, 1 for B), N tasks, L layers, E factors or experts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

DEPTHS = {"shallow": 1 / 6, "middle": 1 / 2, "deep": 5 / 6}  # of the way down: the middle of each third of the layers


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Counts of choices ``[S, N, L, E]`` with the names of the tasks and layers along its axes."""

    counts_SNLE: np.ndarray
    tasks: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def shares(self) -> np.ndarray:
        """Share of a task's choices that went to each factor in each
        layer; rows sum to 1 (0 where nothing was chosen).
        """
        total = self.counts_SNLE.sum(-1, keepdims=True)
        return np.divide(self.counts_SNLE, total, out=np.zeros(self.counts_SNLE.shape), where=total > 0)

    def ordered(self, tasks: Sequence[str]) -> Usage:
        """The same with its tasks in the order of `tasks`; those it does not name are left out."""
        kept = [task for task in tasks if task in self.tasks]
        return Usage(
            counts_SNLE=self.counts_SNLE[:, [self.tasks.index(task) for task in kept]],
            tasks=tuple(kept),
            layers=self.layers,
        )


def read_usage(path: Path) -> Usage:
    """Read a usage.safetensors written by an evaluation. Raises ValueError naming the file if something is missing."""
    try:
        with safe_open(path, framework="np") as file:
            axes = json.loads(file.metadata()["axes"])
            counts = np.stack([file.get_tensor("usage_a"), file.get_tensor("usage_b")])
        tasks, layers = tuple(axes["tasks"]), tuple(axes["layers"])
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as routing usage ({error}); evaluate the model again") from error
    if counts.shape[1:3] != (len(tasks), len(layers)):
        raise ValueError(f"{path}: counts {counts.shape[1:3]} do not match {len(tasks)} tasks and {len(layers)} layers")
    return Usage(counts_SNLE=counts, tasks=tasks, layers=layers)


def dead_share(usage: Usage) -> float:
    """Share of all factors (both sides, all layers) that no sample of any task chose."""
    return float(np.mean(usage.counts_SNLE.sum(axis=1) == 0))


def task_information(usage: Usage) -> np.ndarray:
    """How much a choice tells about the task, ``[S, L]`` in 0 … 1.

    Mutual information between task and factor, tasks weighted equally, as a share of
    the entropy of the tasks: ``I(task; factor) / log N``. 0: all tasks choose alike;
    1: the choice gives the task away. 0 for a single task.
    """
    shares_SNLE = usage.shares
    mean_S1LE = shares_SNLE.mean(axis=1, keepdims=True)
    ratio = np.divide(shares_SNLE, mean_S1LE, out=np.ones_like(shares_SNLE), where=shares_SNLE > 0)
    information_SL = (shares_SNLE * np.log(ratio)).sum(-1).mean(axis=1)
    return information_SL / np.log(len(usage.tasks)) if len(usage.tasks) > 1 else np.zeros_like(information_SL)


def evenness(usage: Usage) -> float:
    """Mean entropy of the tasks' pooled choices over log E: 1 if all factors are used alike, 0 if only one is."""
    mean_SLE = usage.shares.mean(axis=1)
    terms = np.where(mean_SLE > 0, mean_SLE * np.log(np.where(mean_SLE > 0, mean_SLE, 1.0)), 0.0)
    return float(np.mean(-terms.sum(-1)) / np.log(mean_SLE.shape[-1])) if mean_SLE.shape[-1] > 1 else 0.0


def task_overlap(usage: Usage) -> np.ndarray:
    """Overlap of two tasks' choices, ``[N, N]``: sum over factors of the smaller share, averaged over sides
    and layers. 1: the same factors equally often; 0: no factor in common.
    """
    shares = usage.shares
    count = len(usage.tasks)
    overlap = np.empty((count, count))
    for i in range(count):
        overlap[i] = np.minimum(shares[:, i : i + 1], shares).sum(-1).mean(axis=(0, 2))
    return overlap


def layer_place(name: str) -> tuple[int, str]:
    """Depth and kind of a layer from its module name: "…layers.3.mlp.up_proj" → (3, "up_proj"), and for a router that a
    whole layer shares "…layers.3" → (3, "layer"); depth −1 if there is none.
    """
    depths = re.findall(r"\.(\d+)(?=\.|$)", name)
    last = name.rsplit(".", 1)[-1]
    return (int(depths[-1]) if depths else -1), "layer" if last.isdigit() else last


def usage_numbers(usage: Usage) -> dict[str, Any]:
    """Summary for report.json: size, dead share, evenness, and the mean and highest information about the task."""
    information = task_information(usage)
    best = int(information.mean(axis=0).argmax())
    return {
        "layers": len(usage.layers),
        "factors": int(usage.counts_SNLE.shape[-1]),
        "dead_share": dead_share(usage),
        "evenness": evenness(usage),
        "task_information": float(information.mean()),
        "most_informative_layer": {
            "name": usage.layers[best],
            "task_information": float(information[:, best].mean()),
        },
    }
