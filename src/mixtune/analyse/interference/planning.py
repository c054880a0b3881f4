"""Which samples give directions and which are measured, in what order, in what files; and whether files are of this
plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixtune.analyse.interference.banks import AdaptedLinear
from mixtune.analyse.interference.settings import STATISTICS, InterferenceSettings
from mixtune.analyse.subject import Subject, Task
from mixtune.data import Sample, fingerprint_samples
from mixtune.evaluate.store import weights_digest

PART = 128  # units measured between two files; a kill repeats at most these, or one block of directions


@dataclass(frozen=True)
class Unit:
    """Samples of one task whose gradients are averaged, one by default; `task` is its number."""

    task: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """directions: the units of each block of directions. measured: the units of each part that is measured."""

    directions: tuple[tuple[Unit, ...], ...]
    measured: tuple[tuple[Unit, ...], ...]

    def count(self, parts: Sequence[Sequence[Unit]], task: int) -> int:
        """How many units of a task `parts` (one of the two fields) hold."""
        return sum(unit.task == task for part in parts for unit in part)

    @property
    def samples(self) -> int:
        """Number of samples of the whole plan."""
        return sum(len(unit.samples) for part in (*self.directions, *self.measured) for unit in part)


def make_plan(tasks: Sequence[Task], settings: InterferenceSettings) -> Plan:
    """Draw and split each task's samples: at most `per_task`, shuffled by `seed`; one half to directions (with
    `lookahead` one unit a block, since the exact form steps along one gradient at a time), the other to be measured.

    Raises ValueError listing tasks with too few samples to split.
    """
    least = 2 * settings.blocks * settings.unit
    short = [f"{task.name} ({len(task.samples)})" for task in tasks if _available(task, settings) < least]
    if short:
        raise ValueError(
            f"data: each task needs {least} samples (2 · blocks · unit), too few have: {', '.join(short)}; "
            "choose others with --tasks, or fewer --blocks"
        )
    blocks: list[list[Unit]] = [[] for _ in range(settings.blocks)]
    measured: list[list[Unit]] = []
    for number, task in enumerate(tasks):
        units = _units(number, task, settings)
        half = settings.blocks if settings.lookahead else len(units) // 2
        for block, found in enumerate(blocks):
            found += units[block : half : settings.blocks]
        measured.append(units[half:])
    parts = max(1, -(-sum(map(len, measured)) // PART))
    return Plan(
        directions=tuple(_by_length(block) for block in blocks),
        measured=tuple(_by_length([u for units in measured for u in units[part::parts]]) for part in range(parts)),
    )


def batches(units: Sequence[Unit], settings: InterferenceSettings) -> Iterator[Sequence[Unit]]:
    """The units in batches of about `batch_size` samples."""
    size = max(1, settings.batch_size // settings.unit)
    for start in range(0, len(units), size):
        yield units[start : start + size]


def fingerprint(subject: Subject, linears: Sequence[AdaptedLinear], settings: InterferenceSettings) -> str:
    """Hash of everything the files of an analysis depend on: weights, attention code, samples and tasks, banks,
    settings; not of the settings of the statistics, which are worked out anew each time.
    """
    facts: dict[str, Any] = {
        "weights": weights_digest(subject.model),
        "attention": subject.model.config._attn_implementation,
        "samples": [[task.name, fingerprint_samples(task.samples)] for task in subject.tasks],
        "banks": [each.name for each in linears],
        "settings": settings.model_dump(exclude={*STATISTICS, "layers", "linears"}),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _available(task: Task, settings: InterferenceSettings) -> int:
    return min(len(task.samples), settings.per_task)


def _units(number: int, task: Task, settings: InterferenceSettings) -> list[Unit]:
    order = np.random.default_rng([settings.seed, number]).permutation(len(task.samples))[: settings.per_task]
    drawn = [task.samples[place] for place in order]
    size = settings.unit
    return [Unit(number, tuple(drawn[start : start + size])) for start in range(0, len(drawn) - size + 1, size)]


def _by_length(units: list[Unit]) -> tuple[Unit, ...]:
    """Units of like length side by side, so that batches have little padding."""
    return tuple(sorted(units, key=lambda unit: sum(len(m.text) for s in unit.samples for m in s.messages)))
