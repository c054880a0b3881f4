"""Tables of benchmarks and of paired comparisons as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def benchmark_table(results: Mapping[str, Any]) -> Table:
    """A row for each headline number: benchmark, protocol, questions, number, value, interval, its method."""
    table = _table("benchmarks: shares in per cent, MME in points", left=("benchmark", "protocol", "number"))
    for name in ("n", "value", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("of", no_wrap=True)
    for name, found in results.get("benchmarks", {}).items():
        for key in found["headlines"]:
            cell = found["numbers"][key]
            values = _shown(cell["value"], cell["unit"]), _range(cell, cell["unit"])
            whole = "" if found["size"] in (None, found["n"]) else f" of {found['size']}"
            table.add_row(name, found["protocol"], key, f"{found['n']}{whole}", *values, cell["interval"])
    if average := results.get("mmavg"):
        values = _shown(average["value"], "share"), _range(average, "share")
        table.add_row("MMAvg", "", "mean of seven", "", *values, average["interval"], style="bold")
    return table


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """A row for each compared number: here, there, difference with its interval, p-value and test."""
    table = _table(f"against {comparison['against']}: this minus that, same samples", left=("what", "number"))
    for name in ("n", "here", "there", "difference", "interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("test", no_wrap=True)
    for what, number, n, cell in _compared(comparison):
        unit, gap = cell["unit"], cell["difference"]
        sides = [_shown(cell[side], unit) if side in cell else "" for side in ("first", "second")]
        change = f"{_scaled(gap['value'], unit):+.1f}"
        table.add_row(what, number, str(n), *sides, change, _range(gap, unit), f"{cell['p_value']:.3g}", cell["test"])
    return table


def print_benchmarks(console: Console, results: Mapping[str, Any]) -> None:
    """The table of benchmarks, if there are any."""
    if results.get("benchmarks"):
        console.print(benchmark_table(results))


def _compared(comparison: Mapping[str, Any]) -> Iterator[tuple[str, str, int, Mapping[str, Any]]]:
    for name, found in comparison["benchmarks"].items():
        for key, cell in found["numbers"].items():
            yield name, key, found["n"], cell
    for way, cell in comparison["tasks"].items():
        yield f"mean of {cell['tasks']} tasks", way, cell["n"], cell


def _table(title: str, left: tuple[str, ...]) -> Table:
    table = Table(title=title, box=None, collapse_padding=True, pad_edge=False, header_style="bold underline")
    for name in left:
        table.add_column(name, no_wrap=True)
    return table


def _scaled(value: float, unit: str) -> float:
    return 100 * value if unit == "share" else value


def _shown(value: float, unit: str) -> str:
    return f"{_scaled(value, unit):.1f}"


def _range(ends: Mapping[str, float], unit: str) -> str:
    return f"{_shown(ends['low'], unit)} to {_shown(ends['high'], unit)}"
