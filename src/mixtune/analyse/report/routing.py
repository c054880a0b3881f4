"""Routing on the page: every picture of a trained router beside the same picture of an untrained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import escape

from mixtune.analyse.palette import LIGHT
from mixtune.analyse.report.drawing import figure_json
from mixtune.analyse.report.interference import file_name
from mixtune.analyse.report.usage import overlap_ends, overlap_figure, place_figure
from mixtune.analyse.report.words import Said, interval, percent, points, sign_of
from mixtune.analyse.routing.pictures import marks

ROUTERS = ("trained", "untrained")
MOST_POINTS = 2000  # of one map; more are thinned evenly
SYMBOLS = {
    "o": "circle", "s": "square", "D": "diamond", "P": "cross",
    "^": "triangle-up-open", "v": "triangle-down-open", "<": "triangle-left-open", ">": "triangle-right-open",
}  # fmt: skip
MEASURES = {
    "task_information": "what a choice tells about the task (0 nothing, 1 all)",
    "evenness": "evenness of the choices (1: all alike)",
    "dead_share": "share of factors or experts that nothing chose",
    "entropy": "entropy of the router's probabilities (nats)",
}


def routing_answer(content: Mapping[str, Any], label: str = "") -> list[Said]:
    """How often the choices give the task away, against the untrained router; "" if nothing was measured."""
    row = main_purity(content)
    if row is None:
        return []
    difference, said = row["difference"], sign_of(row["difference"])
    ends = {
        "▲": "training made the choices tell more about the task",
        "▼": "training made the choices tell less about the task",
        "": "a difference within the noise",
    }
    about = f" ({label})" if label else ""
    whose = "all tasks" if row["split"] == "all" else f"{row['split']} tasks"
    return [
        Said(
            "Routers",
            f"What the {row['neighbours']} nearest prompts chose tells the task of "
            f"{percent(row['trained']['accuracy'])} of the prompts of {whose} with the trained routers{about}, of "
            f"{percent(row['untrained']['accuracy'])} with untrained ones (difference {points(difference['value'])} "
            f"points, 95 % interval {interval(difference)}; guessing {percent(row['chance'])}): {ends[said]}.",
        )
    ]


def main_purity(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The purity over all layers, of seen tasks where they are told apart from unseen ones."""
    rows = {row["split"]: row for row in content["purity"] if row["name"] == "all"}
    return rows.get("seen") or rows.get("all")


def section(contents: Mapping[str, Mapping[str, Any]], figures: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Values of the section's template; adds the figures, and the maps that the menus choose from."""
    shown = []
    for number, (label, content) in enumerate(contents.items()):
        tasks, names = content["tasks"], task_names(content["tasks"])
        for router in ROUTERS:
            figures[f"map-{number}-{router}"] = map_figure(tasks)
        data[f"maps-{number}"] = map_data(content)
        figures |= {f"{name}-{number}": figure for name, figure in layer_figures(content).items()}
        both = [
            np.array(table["shared"], dtype=float) for table in (content["overlap"], content["overlap"]["untrained"])
        ]
        for router, overlap_NN in zip(ROUTERS, both, strict=True):
            figures[f"shared-{number}-{router}"] = overlap_figure(overlap_NN, names, overlap_ends(*both))
        shown.append(
            {
                "label": label, "number": number, "content": content, "name": file_name(content, label),
                "layers": list(data[f"maps-{number}"]["maps"]), "domains": data[f"maps-{number}"]["domains"],
                "tokens": content["tokens"] is not None, "measures": measure_rows(content),
                "purity": purity_rows(content), "thinned": content["samples"] > MOST_POINTS,
            }
        )  # fmt: skip
    return {"files": shown, "routers": ROUTERS}


def task_names(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names as figures print them: those of unseen tasks in italics."""
    return [str(escape(t["name"])) if t["split"] == "seen" else f"<i>{escape(t['name'])}</i>" for t in tasks]


def measure_rows(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """Means over the routers, trained beside untrained."""
    summary = content["summary"]
    return [{"name": name, **{r: f"{summary[r][key]:.3f}" for r in ROUTERS}} for key, name in MEASURES.items()]


def purity_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of purities."""
    return [
        {
            "name": row["name"],
            "split": row["split"],
            "n": row["samples"],
            "chance": percent(row["chance"]),
            "cells": [
                {
                    "value": percent(row[r]["accuracy"]),
                    "interval": f"{100 * row[r]['low']:.0f} to {100 * row[r]['high']:.0f}",
                }
                for r in ROUTERS
            ],
            "sign": sign_of(row["difference"]),
            "value": points(row["difference"]["value"]),
            "interval": interval(row["difference"]),
        }
        for row in content["purity"]
    ]


def layer_figures(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the choice tells about the task in each linear and, for token routers, how far image and text choose apart;
    trained and untrained with the same colours.
    """
    layers = [row["name"] for row in content["layers"]]
    told = {
        "trained": [_mean(row["task_information"]) for row in content["layers"]],
        "untrained": [_mean(row["untrained"]["task_information"]) for row in content["layers"]],
    }
    found = {f"told-{router}": place_figure(layers, told[router], max(map(max, told.values()))) for router in ROUTERS}
    tokens = content["tokens"]
    if tokens and tokens["untrained"]:
        apart = {"trained": tokens["distance"], "untrained": tokens["untrained"]["distance"]}
        found |= {f"apart-{r}": place_figure(layers, apart[r], max(map(max, apart.values()))) for r in ROUTERS}
    return found


def _mean(sides: Mapping[str, float]) -> float:
    return sum(sides.values()) / len(sides)


def map_figure(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An empty map with one trace a task; the page's script fills in the layers and domain that the reader chooses."""
    figure = go.Figure()
    for name, (_, shape) in zip(task_names(tasks), marks(tasks), strict=True):
        figure.add_trace(
            go.Scatter(
                x=[], y=[], mode="markers", name=name, hovertemplate=f"{name}<extra></extra>",
                marker={"size": 6, "symbol": SYMBOLS[shape], "line": {"width": 1}}, meta={"series": "map"},
            )
        )  # fmt: skip
    hidden = {"visible": False, "fixedrange": True, "range": [-1.08, 1.08]}
    figure.update_layout(
        height=420, xaxis=hidden, yaxis=hidden, margin={"l": 4, "r": 4, "t": 4, "b": 4},
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "top"},
    )  # fmt: skip
    return figure_json(figure)


def map_data(content: Mapping[str, Any]) -> dict[str, Any]:
    """Coordinates by layers, router and task, and the colour and domain of every task."""
    tasks, owner_N = content["tasks"], np.array(content["points"]["task"])
    every = -(-len(owner_N) // MOST_POINTS)
    kept_N = np.arange(len(owner_N)) % every == 0
    places = [np.flatnonzero((owner_N == number) & kept_N) for number in range(len(tasks))]
    maps: dict[str, dict[str, Any]] = {}
    for found in content["maps"]:
        axes = {axis: np.round(np.array(found[axis], dtype=float), 3) for axis in "xy"}
        maps.setdefault(found["name"], {})[found["router"]] = [
            [axes["x"][at].tolist(), axes["y"][at].tolist()] for at in places
        ]
    domains = [task["domain"] for task in tasks]
    return {
        "maps": maps, "domain": domains, "domains": list(dict.fromkeys(domains)),
        "colour": [_themed(colour) for colour, _ in marks(tasks)],
    }  # fmt: skip


def _themed(colour: str) -> str:
    """The name of a colour that changes with the theme, or the colour itself."""
    return "ink" if colour == "#000000" else f"s{LIGHT.index(colour)}" if colour in LIGHT else colour
