"""Measure arms side by side: one call of each in turn, round after round, so that whatever disturbs the machine
disturbs all of them; compare within a round and take medians.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.memory import watch_memory
from benchmarks.options import Settings

Run = Callable[[], Iterator[str]]
"""One call of an arm: a generator that yields the name of each phase when it is done. What follows the last is free."""

MOST_ROUNDS = 100


@dataclass(frozen=True, kw_only=True)
class Case:
    """Arms measured together. arms: by name, what builds one and returns its `Run`. facts: dtype and shapes. reference:
    the arm all are compared with, on `judged` ("total" or a phase). work: what one call gets through, in `unit`, to
    say how many a second. shared_bytes: weights all arms share, added to the peak of each.
    """

    facts: Mapping[str, Any]
    arms: Mapping[str, Callable[[], Run]]
    reference: str
    judged: str = "total"
    work: int = 0
    unit: str = ""
    shared_bytes: int = 0

    @property
    def name(self) -> str:
        """The facts in words; ratios are stored under it, so that those of another shape are never compared."""
        return ", ".join(value if name == "dtype" else f"{name} {value}" for name, value in self.facts.items())


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One arm. seconds: by phase and "total", one entry a round. peak: bytes, None if not measured."""

    seconds: Mapping[str, list[float]] = field(default_factory=dict)
    peak: int | None = None

    def median(self, phase: str) -> float:
        """Median seconds of a phase."""
        return median(self.seconds[phase])


def times(arm: Measured, reference: Measured, phase: str) -> float:
    """How many times as long `arm` takes: median over rounds, in which both were measured moments apart."""
    return median(a / b for a, b in zip(arm.seconds[phase], reference.seconds[phase], strict=True))


def measure(case: Case, settings: Settings, show: Callable[[str], None] = print) -> dict[str, Measured]:
    """Build every arm of `case`, measure their memory one by one, then their time in turn; `show` takes profiles."""
    device = torch.device(settings.device)
    runs: dict[str, Run] = {}
    peaks: dict[str, int | None] = {}
    for name, build in case.arms.items():
        runs[name], peaks[name] = _built(build, device, settings.memory)
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    gc.freeze()  # what was built is not looked through again at every round
    for number in range(_rounds(runs[case.reference], device, settings)):
        gc.collect()
        for name in random.Random(number).sample(list(runs), len(runs)):  # no arm always follows the same one
            for phase, spent in timed(runs[name], device).items():
                seconds[name].setdefault(phase, []).append(spent)
    gc.unfreeze()
    for name in settings.profile:
        if name in runs:
            show(f"{case.name}: {name}\n{profiled(runs[name])}")
    return {
        name: Measured(seconds=seconds[name], peak=None if peak is None else peak + case.shared_bytes)
        for name, peak in peaks.items()
    }


def timed(run: Run, device: torch.device) -> dict[str, float]:
    """Seconds of each phase of one call, and of all as "total", without garbage collection."""
    spent: dict[str, float] = {}
    gc.disable()
    try:
        last = _now(device)
        for phase in run():
            now = _now(device)
            spent[phase] = now - last
            last = now
    finally:
        gc.enable()
    return {**spent, "total": sum(spent.values())}


def profiled(run: Run, rows: int = 16) -> str:
    """The operations one call spends its time in, the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in run():
            pass
    return recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=44)


def _built(build: Callable[[], Run], device: torch.device, memory: bool) -> tuple[Run, int | None]:
    """The arm after one call, and the peak of a second one, if wanted."""
    if not memory:
        run = build()
        timed(run, device)
        return run, None
    with watch_memory(device) as peak:
        run = build()
        timed(run, device)
        gc.collect()
        peak.start()
        timed(run, device)
    return run, peak.bytes


def _rounds(run: Run, device: torch.device, settings: Settings) -> int:
    once = min(timed(run, device)["total"] for _ in range(2))
    return max(settings.rounds, min(MOST_ROUNDS, math.ceil(settings.seconds / once)))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
