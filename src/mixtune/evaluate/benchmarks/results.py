"""The part of results.json about benchmarks: their numbers with intervals, and MMAvg."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixtune.evaluate.benchmarks.founding import MMAVG
from mixtune.evaluate.benchmarks.table import Benchmark, Protocol
from mixtune.evaluate.metrics import RANKED
from mixtune.evaluate.numbers import Number, interval_of


def rows_by_benchmark(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each benchmark, by the name it was asked by; rows of other samples are left out."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("benchmark"):
            found.setdefault(row["benchmark"], []).append(row)
    return found


def numbers_of(rows: Sequence[Mapping[str, Any]], rule: Protocol) -> dict[str, Number]:
    """All numbers of one benchmark's rows: those of its protocol if they were answered greedily, and those of ranking
    (``ranked_accuracy``) if all were ranked.
    """
    found: dict[str, Number] = {}
    if all("score" in row for row in rows):
        found |= rule.numbers(rows)
    if all(row.get("rank_correct") is not None for row in rows):
        found |= rule.ranked(rows)
    return found


def headlines_of(rule: Protocol, numbers: Mapping[str, Any]) -> list[str]:
    """Names of the numbers that tables show first, in order."""
    return [key for key in (*rule.headlines, RANKED) if key in numbers]


def summarise_benchmarks(
    rows: Sequence[Mapping[str, Any]], asked: Mapping[str, Benchmark], confidence: float = 0.95
) -> dict[str, Any]:
    """``benchmarks``: for each its protocol, source, n, size (of the whole set, null if not sure), headlines and
    numbers (value, low, high, n, unit, interval); and ``mmavg`` where all seven columns are there. Empty if no row is
    of a benchmark. `asked` has the table's row of each.
    """
    tables = {}
    for name, mine in rows_by_benchmark(rows).items():
        protocol, numbers = mine[0]["protocol"], {}
        rule = asked[name].protocols[protocol]
        for key, number in numbers_of(mine, rule).items():
            interval, method = interval_of(number, confidence)
            value = {"value": interval.value, "low": interval.low, "high": interval.high}
            numbers[key] = {**value, "n": number.questions, "unit": number.unit, "interval": method}
        tables[name] = {
            "title": asked[name].title,
            "protocol": protocol,
            "source": rule.source,
            "n": len(mine),
            "size": asked[name].size if name == asked[name].name else None,  # a split or another strength is not it
            "headlines": headlines_of(rule, numbers),
            "numbers": numbers,
        }
    found: dict[str, Any] = {"benchmarks": tables} if tables else {}
    average = mm_average(tables)
    return {**found, "mmavg": average} if average else found


def mm_average(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """MMAvg: plain mean of the accuracies of the seven benchmarks other than MME; None unless all are there.

    Source: Shen et al. 2024, Table 1. Its interval is made of the seven (Zou and Donner 2008), see `macro_interval`.
    """
    cells = [tables[name]["numbers"].get("accuracy") for name in MMAVG if name in tables]
    if len(cells) < len(MMAVG) or None in cells:
        return None
    count = len(cells)
    value = sum(cell["value"] for cell in cells) / count
    below = math.sqrt(sum((cell["value"] - cell["low"]) ** 2 for cell in cells)) / count
    above = math.sqrt(sum((cell["high"] - cell["value"]) ** 2 for cell in cells)) / count
    ends = {"value": value, "low": max(0.0, value - below), "high": min(1.0, value + above)}
    return {**ends, "unit": "share", "interval": "of the seven", "columns": list(MMAVG)}
