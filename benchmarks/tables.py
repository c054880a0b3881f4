"""Results as a terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.harness import Case, Measured
from benchmarks.results import Verdict, compared

PLAIN: dict[str, Any] = {"box": None, "pad_edge": False, "header_style": "bold underline", "title_justify": "left"}


def case_table(case: Case, arms: Mapping[str, Measured]) -> Table:
    """One row an arm: milliseconds of each phase and in all, peak memory, and both as multiples of the reference's,
    the time of the fastest calls too.
    """
    title = f"{case.name}; × {case.reference}, on {case.judged}"
    table = Table(title=title, min_width=len(title), **PLAIN)
    phases = list(next(iter(arms.values())).seconds)
    if len(phases) == 2:  # one phase is the whole
        phases.remove("total")
    rate = [f"{case.unit}/s"] if case.work else []
    table.add_column("arm", no_wrap=True)
    memory = ["peak MiB", "× peak"] if arms[case.reference].peak else []
    for heading in (*(f"{phase} ms" for phase in phases), *rate, "× time", "× best", *memory):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, measured in arms.items():
        ratios = compared(measured, arms[case.reference], case)
        times = [f"{1e3 * measured.median(phase):.1f}" for phase in phases]
        rates = [f"{case.work / measured.median(case.judged):.1f}"] if case.work else []
        peaks = [f"{(measured.peak or 0) / 2**20:.1f}", f"{ratios['peak']:.2f}"] if memory else []
        style = "bold" if name == case.reference else ""
        table.add_row(name, *times, *rates, f"{ratios['time']:.2f}", f"{ratios['best']:.2f}", *peaks, style=style)
    return table


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a target."""
    table = Table(title="targets, largest shape of each dtype", **PLAIN)
    for heading in ("case", "arm", "peer", "of", "limit", "measured", ""):
        table.add_column(heading, no_wrap=True)
    for each in verdicts:
        word = "[green]kept[/]" if each.kept else "[red]missed[/]"
        table.add_row(each.case, each.arm, each.peer, each.of, f"≤ {each.limit:.2f}", f"{each.measured:.2f}", word)
    return table
