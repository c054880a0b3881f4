"""Rows of the report's tables, as plain values the template prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixtune.analyse.report.words import DASH, count, duration, gigabytes, percent, points
from mixtune.analyse.runs import Run
from mixtune.evaluate.summary import compare_rows


def split_order(runs: Sequence[Run]) -> list[str]:
    """The splits of the first model: "seen" first, then the others by name."""
    return sorted(runs[0].results["summary"], key=lambda split: (split != "seen", split))


def accuracy_cell(entry: Mapping[str, float] | None) -> dict[str, str]:
    """A value such as "71.3 %" and its interval such as "68 to 75"; a dash where the model was not asked."""
    if not entry:
        return {"value": DASH, "interval": ""}
    return {
        "value": percent(entry["accuracy"]),
        "interval": f"{100 * entry['low']:.0f} to {100 * entry['high']:.0f}",
    }


def difference_cell(runs: Sequence[Run], way: str, **keep: str) -> dict[str, str] | None:
    """First model minus second on the rows whose fields equal `keep`,
    in points, with interval and a sign if decided.
    """
    if len(runs) < 2:
        return None
    mine, other = ([row for row in run.rows if all(row[k] == v for k, v in keep.items())] for run in runs[:2])
    if not any(row.get(f"{way}_correct") is not None for row in mine):
        return {"value": DASH, "interval": "", "sign": ""}
    paired = compare_rows(mine, other, way)
    gap = paired.difference
    sign = "" if not paired.decided else "▲" if gap.value > 0 else "▼"
    return {"value": points(gap.value), "interval": f"{points(gap.low)} to {points(gap.high)}", "sign": sign}


def accuracy_tables(runs: Sequence[Run], way: str) -> list[dict[str, Any]]:
    """One table a split: its tasks by domain, then the mean over tasks."""
    tables = []
    for split in split_order(runs):
        tasks = [name for name, task in runs[0].tasks.items() if task["split"] == split]
        rows = []
        for name in sorted(tasks, key=lambda task: (runs[0].tasks[task]["domain"], task)):
            task = runs[0].tasks[name]
            cells = [accuracy_cell(run.tasks.get(name, {}).get(way)) for run in runs]
            facts = {
                "name": name,
                "domain": task["domain"],
                "n": task["n"],
                "chance": percent(task["chance"]),
            }
            rows.append({**facts, "cells": cells, "difference": difference_cell(runs, way, task=name)})
        summary = runs[0].results["summary"][split]
        cells = [accuracy_cell(run.results["summary"].get(split, {}).get(way)) for run in runs]
        facts = {
            "name": f"mean of {len(rows)} tasks",
            "domain": "",
            "n": summary["n"],
            "chance": percent(summary["chance"]),
        }
        mean = {**facts, "cells": cells, "difference": difference_cell(runs, way, split=split)}
        tables.append({"split": split, "rows": rows, "mean": mean})
    return tables


def budget_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What each model cost: name of the cost, one text a model; costs that no model recorded are left out."""
    getters = {
        "trained parameters, factors": lambda run: count(trained(run, "factors")),
        "trained parameters, routers": lambda run: count(trained(run, "routers")),
        "trained parameters, projector": lambda run: count(trained(run, "projector")),
        "trained parameters, other": lambda run: count(trained(run, "other") or None),
        "optimiser steps": lambda run: count(run.log[-1]["step"] if run.log else None),
        "samples": lambda run: count(metric(run, "samples")),
        "supervised tokens": lambda run: count(metric(run, "tokens")),
        "training time": lambda run: duration(metric(run, "seconds")),
        "peak RAM while training": lambda run: gigabytes(peak(run, "host")),
        "peak GPU memory while training": lambda run: gigabytes(peak(run, "device")),
        "evaluation": lambda run: _speed(run.results),
    }
    rows = [{"name": name, "values": [get(run) for run in runs]} for name, get in getters.items()]
    return [row for row in rows if any(value != DASH for value in row["values"])]


def trained(run: Run, part: str) -> int | None:
    """Trained parameters of a part, or None if the run's result is not there."""
    return run.budget.get("parameters", {}).get(part)


def metric(run: Run, name: str) -> float | None:
    """A total of the training run, or None if it was not recorded."""
    return run.budget.get("metrics", {}).get(name)


def peak(run: Run, place: str) -> float | None:
    """Bytes the training run held at its fullest, of the process ("host") or of its tensors on the GPU ("device"); None
    if it was not recorded.
    """
    return run.budget.get("peak_memory", {}).get(place)


def _speed(results: Mapping[str, Any]) -> str:
    seconds = results.get("seconds")
    return f"{duration(seconds)}, {results['n'] / seconds:.0f} samples/s" if seconds else DASH
