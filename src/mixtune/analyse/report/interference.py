"""Interference on the page: the answer in words, four heatmaps at a glance, and any other group from a menu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from mixtune.analyse.interference.pictures import DECIDED, colour_limit, place_name, shown_values
from mixtune.analyse.interference.results import verdict
from mixtune.analyse.report.drawing import Cells, figure_json, ringed
from mixtune.analyse.report.words import Said, listed, plural, signed

SIDES = ("A", "B")
MENU_CELLS = 60_000  # a page stays below some megabytes; interference.json has every group


def interference_answer(content: Mapping[str, Any], label: str = "") -> list[Said]:
    """Whether steps on one task hurt another, how much at worst, and how much of it cannot be told."""
    rows = {row["side"]: row for row in content["summary"] if row["name"] == "all"}
    level = f"{100 * content['settings']['confidence']:.0f} %"
    luck = (1 - content["settings"]["confidence"]) / 2
    readable = {side: row for side, row in rows.items() if _read(row)}
    hurt = [
        f"in {row['hurts']} of {_read(row)} pairs in LoRA {side} (luck alone: about {_about(luck * _read(row))})"
        for side, row in readable.items()
    ]
    helped = [f"in {row['helps']} in {side}" for side, row in readable.items()]
    found = "Of no pair of tasks it can be told whether they help or hurt."
    if readable:
        found = (
            f"A step on one task hurts another {listed(hurt)} by its whole {level} interval; it helps {listed(helped)}."
        )
    samples = max((task["measured"] for task in content["tasks"]), default=0)
    lost = [f"{row['undecided']} of {row['pairs']} pairs in {side}" for side, row in rows.items() if row["undecided"]]
    rest = [_worst(content["summary"])]
    if lost:
        rest.append(
            f"{listed(lost)} cannot be read: the task's own gain is not told from zero with "
            f"{plural(samples, 'sample')}."
        )
    about = f" ({label})" if label else ""
    return [Said(f"Pairs of tasks{about}", found), Said(f"Worst pair{about}", " ".join(rest))]


def _about(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _read(row: Mapping[str, Any]) -> int:
    """Pairs whose score says anything."""
    return int(row["pairs"] - row["undecided"])


def _worst(summary: Sequence[Mapping[str, Any]]) -> str:
    """The pair that hurts most over all layers or, if none does, in one of the chosen layers."""
    for here in (lambda name: name == "all", lambda name: name != "all"):
        cells = [(cell, row) for row in summary if here(row["name"]) for cell in row["worst"][:1]]
        if cells:
            cell, row = min(cells, key=lambda each: each[0]["score"]["value"])
            score, place = cell["score"], "all layers" if row["name"] == "all" else f"{row['name']} layers only"
            if row["name"].startswith("layer"):
                place = f"{row['name']} only"
            return (
                f"A step on {cell['by']} undoes {-score['value']:.2f} times what {cell['hurt']} gains from a step of "
                f"its own ({-score['high']:.2f} to {-score['low']:.2f}; LoRA {row['side']}, {place})."
            )
    return "No pair hurts with its whole interval."


def place_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table that says where: counts and mean score for each side and depth."""
    return [
        {
            **{key: row[key] for key in ("side", "name", "helps", "hurts", "unclear", "undecided")},
            "mean": "–" if row["mean"] is None else signed(row["mean"]),
        }
        for row in content["summary"]
    ]


def pair_rows(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """The pairs that hurt and help most over all layers."""
    found = []
    for row in content["summary"]:
        if row["name"] == "all":
            for word, done in (("worst", "hurt"), ("best", "helped")):
                found += [_pair_row(row["side"], done, cell) for cell in row[word]]
    return found


def _pair_row(side: str, done: str, cell: Mapping[str, Any]) -> dict[str, str]:
    score = cell["score"]
    ends = f"{signed(score['low'])} to {signed(score['high'])}"
    return {
        "side": side,
        "task": cell[done],
        "done": done,
        "by": cell["by"],
        "value": signed(score["value"]),
        "ends": ends,
    }


def section(contents: Mapping[str, Mapping[str, Any]], figures: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Values of the section's template; adds the figures, and the groups that the menus choose from."""
    shown = []
    for number, (label, content) in enumerate(contents.items()):
        tasks = [task["name"] for task in content["tasks"]]
        groups = content["groups"]
        limit = colour_limit([group for group in groups if group["kind"] == "depth"], tasks)
        panels = []
        for depth in outer_depths(groups):
            for group in (group for group in groups if group["kind"] == "depth" and group["name"] == depth):
                name = f"interference-{number}-{group['side']}-{depth.replace(' ', '-')}"
                figures[name] = group_figure(group, tasks, limit)
                panels.append({"figure": name, "title": f"LoRA {group['side']}: {place_name(group)}"})
        for side in SIDES:
            figures[f"interference-{number}-any-{side}"] = group_figure(_first(groups, side), tasks, limit)
        data[f"interference-{number}"] = menu_data(groups, tasks)
        shown.append(
            {"label": label, "number": number, "content": content, "panels": panels, "limit": limit,
             "name": file_name(content, label), "places": place_rows(content), "pairs": pair_rows(content)}
        )  # fmt: skip
    return {"files": shown, "sides": SIDES}


def file_name(content: Mapping[str, Any], label: str) -> str:
    """What was looked at: where the file lies below the report's folder, else the adapter's folder, else the preset."""
    return label or (PurePath(content["adapter"]).name if content["adapter"] else f"a fresh {content['preset']}")


def outer_depths(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the first and the last of the chosen layers."""
    names = list(dict.fromkeys(group["name"] for group in groups if group["kind"] == "depth"))
    return names if len(names) < 2 else [names[0], names[-1]]


def _first(groups: Sequence[Any], side: str) -> Any:
    return next(group for group in groups if group["side"] == side)


def group_figure(group: Mapping[str, Any], tasks: Sequence[str], limit: float) -> dict[str, Any]:
    """Heatmap of one group: rows are helped or hurt, columns are learnt; a ring where the interval leaves zero out."""
    figure = ringed(group_cells(group, tasks), limit)
    figure.update_xaxes(title={"text": "… by a step on this task"})
    figure.update_yaxes(title={"text": "helped or hurt …"})
    return figure_json(figure)


def group_cells(group: Mapping[str, Any], tasks: Sequence[str]) -> Cells:
    """Scores of one group, without the diagonal and undecided rows, and the cells that help or hurt."""
    plain, numbers = dict(group), range(len(tasks))
    values = [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in shown_values(plain, tasks)]
    told = [
        (tasks[i], tasks[j]) for i in numbers for j in numbers if i != j and verdict(plain, tasks, i, j) in DECIDED
    ]  # fmt: skip
    texts = [[_cell(plain["score"], i, j) for j in numbers] for i in numbers]
    return Cells(rows=tasks, columns=tasks, values=values, texts=texts, told=told)


def _cell(score: Mapping[str, Any], i: int, j: int) -> str:
    value, low, high = (score[end][i][j] for end in ("value", "low", "high"))
    return "undefined" if None in (value, low, high) else f"{signed(value)} ({signed(low)} to {signed(high)})"


def menu_data(groups: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """What the menu of one file chooses from: a name, and A and B of that group; no more than MENU_CELLS allow."""
    names = list(dict.fromkeys((group["kind"], group["name"]) for group in groups))
    names = names[: max(1, MENU_CELLS // (len(SIDES) * len(tasks) ** 2))]
    found = []
    for kind, name in names:
        mine = {group["side"]: group for group in groups if (group["kind"], group["name"]) == (kind, name)}
        first = next(iter(mine.values()))
        shown = {"all": "all chosen layers", "depth": place_name(first)}.get(kind, name)
        found.append({"name": shown, **{side: group_cells(group, tasks).as_dict() for side, group in mine.items()}})
    return found
