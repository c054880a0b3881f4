"""Tables of benchmarks and of paired comparisons as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mixtune.evaluate.benchmarks.registry import OFFICIAL
from mixtune.evaluate.benchmarks.table import Benchmark
from mixtune.evaluate.metrics import RANKED


def table_of_benchmarks(rows: Mapping[str, Benchmark]) -> Table:
    """A row for each benchmark that there is: what it is, its first numbers, its protocols, how to get it."""
    table = _table("benchmarks of mixtune evaluate; more in docs/evaluation.md", ("NAME",))
    table.add_column("what: its numbers; protocols; what NAME alone and NAME=PATH read")
    for row in rows.values():
        numbers, alone = ", ".join(row.protocols[OFFICIAL].headlines), f"NAME: {row.dataset or 'nothing'}; NAME=PATH: "
        what = f"[bold]{escape(row.title)}[/]: {numbers}; {', '.join(row.protocols)}"
        table.add_row(row.name, f"{what}\n{'' if row.drawn else alone}{escape(row.obtain)}")
    return table


def benchmark_table(results: Mapping[str, Any]) -> Table:
    """A row for each headline number and for the parts of the first: benchmark, number, questions, value, interval."""
    found = results["benchmarks"]
    rules = ", ".join(sorted({table["protocol"] for table in found.values()}))
    table = _table(f"protocol {rules}: per cent or points, 95 % intervals", ("benchmark", "number"))
    for name in ("n", "value", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, each in found.items():
        for key in [*each["headlines"], *_parts(each)]:
            cell = each["numbers"][key]
            values = _shown(cell["value"], cell["unit"]), _range(cell, cell["unit"])
            table.add_row(name, key, str(cell["n"]), *values, style="dim" if "/" in key else "")
        if not each["headlines"]:
            table.add_row(name, "no options to rank", str(each["n"]), style="yellow")
        if each["size"] not in (None, each["n"]):
            table.add_row("", f"{each['n']} of {each['size']} questions", style="yellow")
    if average := results.get("mmavg"):
        table.add_row(
            "MMAvg", "mean of seven", "", _shown(average["value"], "share"), _range(average, "share"), style="bold"
        )
    return table


def _parts(found: Mapping[str, Any]) -> list[str]:
    """Names of the numbers of a benchmark's parts: accuracies, or what its first headline is of; MME's points."""
    families = {"points", "accuracy", RANKED, *found["headlines"][:1]}
    return [key for key in found["numbers"] if "/" in key and key.partition("/")[0] in families]


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """A row for each compared number: here, there, the difference with its interval, the p-value."""
    table = _table(f"against {comparison['against']}: this minus that, same samples", ("what", "number"))
    for name in ("n", "here", "there", "difference", "interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for what, number, n, cell in _compared(comparison):
        unit, gap = cell["unit"], cell["difference"]
        sides = [_shown(cell[side], unit) if side in cell else "" for side in ("first", "second")]
        change = f"{_scaled(gap['value'], unit):+.1f}"
        table.add_row(what, number, str(n), *sides, change, _range(gap, unit), f"{cell['p_value']:.3g}")
    return table


def print_benchmarks(console: Console, results: Mapping[str, Any]) -> None:
    """The table of benchmarks, if there are any."""
    if results.get("benchmarks"):
        console.print(benchmark_table(results))


def without_benchmarks(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with `tasks` and `summary` of other samples alone: benchmarks have a table of their own."""
    mine = results.get("benchmarks", {})
    tasks = {name: task for name, task in results["tasks"].items() if task["split"] not in mine}
    return {**results, "tasks": tasks, "summary": {k: v for k, v in results["summary"].items() if k not in mine}}


def _compared(comparison: Mapping[str, Any]) -> Iterator[tuple[str, str, int, Mapping[str, Any]]]:
    for name, found in comparison["benchmarks"].items():
        for key, cell in found["numbers"].items():
            yield name, key, cell["n"], cell
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
