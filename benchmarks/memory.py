"""Peak memory of one arm: bytes of all tensors alive at the worst moment, counted by the allocator itself.

On CUDA that is torch.cuda's own peak. On a CPU it is the running sum of every allocation and release of torch's CPU
allocator, which torch.profiler records (profile_memory): exact and the same at each run, where the resident set of a
process also holds its imports and what the allocator keeps. Scratch space of the matrix libraries is in neither.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile, record_function

MARK = "benchmarks: the peak counts from here"


class Peak:
    """Filled in when `watch_memory` ends; bytes: at the worst moment after `start`, what existed before it included."""

    bytes: int = 0

    def __init__(self, device: torch.device):
        self.device = device

    def start(self) -> None:
        """From here on the peak counts."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with record_function(MARK):
                pass


@contextmanager
def watch_memory(device: torch.device) -> Iterator[Peak]:
    """Count what is allocated on `device` inside; what was there before is left out."""
    peak = Peak(device)
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        yield peak
    peak.bytes = _highest(recorded)


def _highest(recorded: profile) -> int:
    """The largest running sum of allocations after the mark, or at it."""
    events = recorded.profiler.kineto_results.events()
    marked = min((event.start_ns() for event in events if event.name() == MARK), default=0)
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    alive = highest = 0
    for moment, size in changes:
        before, alive = alive, alive + size
        if moment >= marked:
            highest = max(highest, before, alive)
    return max(highest, alive)
