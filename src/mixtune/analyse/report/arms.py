"""Rows of a comparison's tables: arms, gaps to specialists, tasks, search and published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.verdicts import blind_mean
from mixtune.analyse.report.words import DASH, interval, p_value, percent, points, sign_of
from mixtune.evaluate.settings import SPLITS

Entry = Mapping[str, Any]


def heading(entry: Entry, title: str) -> str:
    """A table's title, with the data size where there are several."""
    return f"{title}, {entry['data_size']:,} samples a task" if entry["data_size"] else title


def accuracy_cell(found: Mapping[str, Any] | None) -> dict[str, str]:
    """A mean such as "71.3 %" and its interval such as "68.0 to 75.1"; a dash where the arm was not asked."""
    if not found:
        return {"value": DASH, "interval": ""}
    return {"value": percent(found["mean"]), "interval": f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"}


def difference_cell(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """A difference in points, its interval, its p-values, and a sign if it is decided."""
    if not found:
        return {"value": DASH, "interval": "", "sign": "", "holm": "", "p": "", "seeds": "", "decided": ""}
    return {
        "value": points(found["mean"]),
        "interval": interval(found),
        "sign": sign_of(found) if found["decided"] else "",
        "p": p_value(found["p"]),
        "holm": p_value(found["p_holm"]),
        "seeds": p_value(found["p_seeds"]),
        "decided": "yes" if found["decided"] else "no",
    }


def part_of(tasks: int, most: int) -> str:
    """Words beside an arm whose mean is over fewer tasks than those of other arms."""
    return f"{tasks} of {most} tasks only" if tasks < most else ""


def arm_tables(compared: Compared) -> list[dict[str, Any]]:
    """For each data size and split: every arm's mean and its difference to the baseline."""
    tables = []
    for entry in compared.entries:
        for split in SPLITS:
            arms = {name: arm for name, arm in entry["arms"].items() if split in arm["splits"]}
            if not arms:
                continue
            some = next(iter(arms.values()))["splits"][split]
            most = max(arm["splits"][split]["tasks"] for arm in arms.values())
            blind = {name: blind_mean(entry, name, split) for name in arms}
            rows = [
                {
                    "name": name,
                    "series": compared.styles[name],
                    "seeds": compared.seeds_words(name, entry),
                    "tasks": part_of(arm["splits"][split]["tasks"], most),
                    "cell": accuracy_cell(arm["splits"][split]),
                    "blind": percent(blind[name]),
                    "difference": difference_cell(entry["differences"].get(name, {}).get("splits", {}).get(split)),
                    "baseline": name == entry["baseline"],
                }
                for name, arm in arms.items()
            ]
            title = heading(entry, f"{split.capitalize()} tasks ({most})")
            tables.append(
                {
                    "title": title,
                    "rows": rows,
                    "missing": [
                        {"name": name, "series": compared.styles[name], "seeds": compared.seeds_words(name, entry)}
                        for name in compared.facts
                        if name not in entry["arms"]
                    ],
                    "chance": percent(some["chance"]),
                    "blind": any(v is not None for v in blind.values()),
                }
            )
    return tables


def gap_tables(compared: Compared) -> list[dict[str, Any]]:
    """For each data size and arm of specialists: every joint arm minus them."""
    return [
        {
            "title": heading(entry, f"Minus {special}"),
            "rows": [
                {
                    "name": name,
                    "series": compared.styles[name],
                    "split": split,
                    "seeds": len(found["by_seed"]),
                    "difference": difference_cell(found),
                }
                for name, arm in gaps.items()
                for split, found in arm["splits"].items()
            ],
        }
        for entry in compared.entries
        for special, gaps in entry["gaps"].items()
        if gaps
    ]


def task_tables(compared: Compared) -> list[dict[str, Any]]:
    """For each data size and split: every task's mean of every arm, and what is left with shuffled pictures."""
    tables = []
    for entry in compared.entries:
        for split in SPLITS:
            tasks = sorted(
                (name for name, task in entry["tasks"].items() if task["split"] == split),
                key=lambda name: (entry["tasks"][name]["domain"], name),
            )
            if tasks:
                title = heading(entry, f"{split.capitalize()} tasks")
                tables.append(
                    {"title": title, "arms": list(entry["arms"]), "rows": [_task_row(entry, t) for t in tasks]}
                )
    return tables


def _task_row(entry: Entry, task: str) -> dict[str, Any]:
    facts, cells = entry["tasks"][task], []
    for name, arm in entry["arms"].items():
        gap = entry["differences"].get(name, {}).get("tasks", {}).get(task)
        blind = arm.get("blind", {}).get(task)
        cells.append(
            {
                **accuracy_cell(arm["tasks"].get(task)),
                "sign": sign_of(gap) if gap else "",
                "blind": percent(blind["mean"]) if blind else "",
            }
        )
    return {
        "name": task,
        "domain": facts["domain"],
        "n": facts["n"],
        "chance": percent(facts["chance"]),
        "cells": cells,
    }


def search_table(compared: Compared) -> dict[str, Any] | None:
    """Every point that was tried, or None without a search."""
    rows = compared.content["search"]
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row["point"]))
    shown = [
        {
            "name": row["arm"],
            "series": compared.styles[row["arm"]],
            "chosen": row["chosen"],
            "point": [
                f"{row['point'][key]:g}"
                if isinstance(row["point"].get(key), float)
                else str(row["point"].get(key, DASH))
                for key in keys
            ],
            "accuracy": "failed" if row["accuracy"] is None else percent(row["accuracy"]),
            "note": "chosen" + (f"; at the grid's edge in {', '.join(row['at_edge'])}" if row["at_edge"] else "")
            if row["chosen"]
            else "",
        }
        for row in rows
    ]
    return {"keys": keys, "rows": shown}


def published_tables(compared: Compared) -> list[dict[str, Any]]:
    """The paper's rows, each above the run's own; one table for each of the paper's."""
    found = compared.content["published"]
    rows: Sequence[Mapping[str, Any]] = found["rows"] if found else []
    tables = []
    for name in dict.fromkeys(row["table"] for row in rows):
        mine = [row for row in rows if row["table"] == name]
        columns, lines = list(mine[0]["paper"]), []
        for row in mine:
            label = row["row"]
            sizes = [f"{short}={label[long]}" for short, long in (("E", "factors"), ("r", "rank")) if label[long]]
            lines.append(
                {
                    "name": " ".join([label["model"], *sizes]),
                    "whose": "paper",
                    "values": [_plain(row["paper"][c]) for c in columns],
                }
            )
            lines.append({"name": row["arm"], "whose": "run", "values": [_plain(row["run"][c]) for c in columns]})
        tables.append({"title": f"{name} of the paper", "columns": columns, "rows": lines})
    return tables


def _plain(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"
