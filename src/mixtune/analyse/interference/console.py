"""The answer of an interference analysis as a terminal shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def interference_tables(content: dict[str, Any]) -> list[Table]:
    """How many pairs help and hurt, by bank and layer; and the pairs of tasks that do so most over all layers."""
    counts = Table(title="pairs of tasks", box=None, pad_edge=False, header_style="bold underline")
    for name in ("banks", "pairs", "help", "hurt", "unclear", "undecided", "mean score"):
        counts.add_column(name, justify="left" if name == "banks" else "right", no_wrap=True)
    pairs = Table(title="strongest, all layers", box=None, pad_edge=False, header_style="bold underline")
    for name in ("banks", "task", "", "by a step on", "score"):
        pairs.add_column(name, no_wrap=True)
    for row in content["summary"]:
        words = (str(row[word]) for word in ("pairs", "helps", "hurts", "unclear", "undecided"))
        counts.add_row(
            f"LoRA {row['side']}, {row['name']}", *words, "–" if row["mean"] is None else f"{row['mean']:+.3f}"
        )
        if row["name"] != "all":
            continue
        for cell in row["worst"]:
            pairs.add_row(f"LoRA {row['side']}", cell["hurt"], "hurt", cell["by"], score_text(cell["score"]))
        for cell in row["best"]:
            pairs.add_row(f"LoRA {row['side']}", cell["helped"], "helped", cell["by"], score_text(cell["score"]))
    return [counts, pairs] if pairs.row_count else [counts]


def score_text(score: dict[str, float]) -> str:
    """A score with its interval."""
    return f"{score['value']:+.2f} ({score['low']:+.2f} to {score['high']:+.2f})"


def print_interference(path: Path, console: Console | None = None) -> None:
    """The tables of an interference.json, and what it cost."""
    content = json.loads(path.read_text(encoding="utf-8"))
    console = console or Console()
    for table in interference_tables(content):
        console.print(table, "")
    cost = content["cost_ratio"]
    beside = f", {cost:.2f} of what its training took for as many" if cost else ""
    console.print(
        f"{content['samples']:,} samples, {content['samples_per_second']:.1f} samples/s{beside}", highlight=False
    )
