"""The table of results as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mixtune.analyse.headline import percent


def cell(entry: Mapping[str, float] | None) -> str:
    """Accuracy in per cent with its interval."""
    return f"{100 * entry['accuracy']:.0f} ({100 * entry['low']:.0f}–{100 * entry['high']:.0f})" if entry else "–"


def results_table(results: Mapping[str, Mapping[str, Any]], way: str = "rank") -> Table:
    """One row a task, seen tasks first, and the mean of each split: chance, then each model with its interval, in
    per cent.

    ``results`` maps a model's label to the content of its results.json; all of them answered the same tasks.
    """
    first = next(iter(results.values()))
    table = Table(title=f"accuracy in per cent by {way}, 95 % intervals")
    for name, side in (("split", "left"), ("task", "left"), ("n", "right"), ("chance", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for label in results:
        table.add_column(label, justify="right")
    for split in sorted(first["summary"]):
        tasks = sorted((task for task, row in first["tasks"].items() if row["split"] == split), key=str)
        for task in tasks:
            row = first["tasks"][task]
            cells = (cell(result["tasks"][task][way]) for result in results.values())
            table.add_row(split, task, str(row["n"]), percent(row["chance"]), *cells)
        summary = first["summary"][split]
        cells = (cell(result["summary"][split][way]) for result in results.values())
        table.add_row(
            split, f"mean of {len(tasks)} tasks", str(summary["n"]), percent(summary["chance"]), *cells, style="bold"
        )
        table.add_section()
    return table
