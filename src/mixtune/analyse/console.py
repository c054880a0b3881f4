"""The table of results as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def cell(entry: Mapping[str, float] | None) -> str:
    """Accuracy in per cent with its interval, or a dash where the model was not asked."""
    return f"{100 * entry['accuracy']:.0f} ({100 * entry['low']:.0f}–{100 * entry['high']:.0f})" if entry else "–"


def share(value: float | None) -> str:
    """A share in per cent, or a dash where there is none (chance of tasks without options)."""
    return "–" if value is None else f"{100 * value:.0f}"


def results_table(results: Mapping[str, Mapping[str, Any]], way: str = "rank") -> Table:
    """One row a task and the mean of each split: questions, chance, then each model with its interval, in per cent.

    ``results`` maps a model's label to the content of its results.json; all of them answered the same tasks. Names are
    never cut: the table is 80 columns wide with three models.
    """
    first = next(iter(results.values()))
    title = f"accuracy in per cent ({way}), 95 % intervals"
    table = Table(title=title, box=None, collapse_padding=True, pad_edge=False, header_style="bold underline")
    table.add_column("task", no_wrap=True)
    for name in ("n", "chance", *results):
        table.add_column(name, justify="right", no_wrap=True)
    for split in sorted(first["summary"]):
        tasks = sorted(task for task, row in first["tasks"].items() if row["split"] == split)
        for task in tasks:
            row = first["tasks"][task]
            cells = (cell(result["tasks"][task][way]) for result in results.values())
            table.add_row(task, str(row["n"]), share(row["chance"]), *cells)
        whole = first["summary"][split]
        cells = (cell(result["summary"][split][way]) for result in results.values())
        name = f"mean of {len(tasks)} {split} tasks"
        table.add_row(name, str(whole["n"]), share(whole["chance"]), *cells, style="bold")
        table.add_row()
    return table


def print_results(console: Console, results: Mapping[str, Mapping[str, Any]]) -> None:
    """The table of each way to answer, or a line saying why there is none."""
    for way in ("rank", "greedy"):
        asked = (task[way] for result in results.values() for task in result["tasks"].values())
        console.print(
            results_table(results, way) if any(asked) else f"no {way} results: rows without `options` are not ranked"
        )
