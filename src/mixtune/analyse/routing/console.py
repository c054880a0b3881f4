"""The answer of a routing analysis as a terminal shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mixtune.analyse.routing.measures import MEASURES


def routing_tables(content: dict[str, Any]) -> list[Table]:
    """The measures and the purities, trained beside untrained."""
    numbers = Table(title="mean over routers", box=None, pad_edge=False, header_style="bold underline")
    pure = Table(
        title="task told by the nearest prompts, per cent", box=None, pad_edge=False, header_style="bold underline"
    )
    for name in ("measure", "trained", "untrained"):
        numbers.add_column(name, justify="left" if name == "measure" else "right", no_wrap=True)
    for name in MEASURES:
        row = (content["summary"][router][name] for router in ("trained", "untrained"))
        numbers.add_row(name.replace("_", " "), *(f"{value:.3f}" for value in row))
    for name in ("layers", "tasks", "n", "chance", "trained", "untrained", "difference"):
        pure.add_column(name, justify="left" if name in ("layers", "tasks") else "right", no_wrap=True)
    for row in content["purity"]:
        shown = [
            f"{100 * row[r]['accuracy']:.0f} ({100 * row[r]['low']:.0f}–{100 * row[r]['high']:.0f})"
            for r in ("trained", "untrained")
        ]
        apart = row["difference"]
        told = f"{100 * apart['value']:+.0f}"
        if apart["low"] is not None:
            told += f" ({100 * apart['low']:+.0f} to {100 * apart['high']:+.0f})"
        pure.add_row(row["name"], row["split"], str(row["samples"]), f"{100 * row['chance']:.0f}", *shown, told)
    return [numbers, pure]


def print_routing(path: Path, console: Console | None = None) -> None:
    """The tables of a routing.json."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for table in routing_tables(content):
        (console or Console()).print(table, "")
