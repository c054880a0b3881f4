"""What each arm of a comparison is and cost, as rows of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.words import DASH, count, duration, gigabytes, points


def cost_rows(compared: Compared) -> list[dict[str, Any]]:
    """What each arm trained and cost: one row a cost, one text an arm; costs that no arm has are left out."""
    getters = {
        "method": lambda arm: arm["preset"] or arm["stage"] or arm["kind"],
        "rank": lambda arm: count(arm.get("r")),
        "factors or experts": lambda arm: count(arm.get("num_factors") or arm.get("num_experts")),
        "scale": lambda arm: f"{arm['scale']:g}" if arm.get("scale") is not None else DASH,
        "learning rate": lambda arm: DASH if arm["learning_rate"] is None else f"{arm['learning_rate']:g}",
        "trained parameters": lambda arm: count(_parameters(arm, "total")),
        "– factors": lambda arm: count(_parameters(arm, "factors")),
        "– routers": lambda arm: count(_parameters(arm, "routers")),
        "– projector": lambda arm: count(_parameters(arm, "projector")),
        "– other": lambda arm: count(_parameters(arm, "other") or None),
        "active in adapters": _active,
        "size solved for a budget": _solved,
        "models a seed": lambda arm: count(arm["models"]),
        "optimiser steps of a model": lambda arm: " or ".join(f"{steps:,}" for steps in arm["steps"] if steps) or DASH,
        "samples a seed": lambda arm: count(arm["samples"]),
        "training a seed": lambda arm: duration(arm["train_seconds"]),
        "evaluation a seed": lambda arm: duration(arm["evaluate_seconds"]),
        "peak RAM": lambda arm: _memory(arm, "host"),
        "peak GPU memory": lambda arm: _memory(arm, "device"),
    }
    arms = list(compared.facts.values())
    rows = [{"name": name, "values": [get(arm) for arm in arms]} for name, get in getters.items()]
    return [row for row in rows if any(value != DASH for value in row["values"])]


def _parameters(arm: Mapping[str, Any], part: str) -> int | None:
    return arm["parameters"][part] if arm["parameters"] else None


def _active(arm: Mapping[str, Any]) -> str:
    active = _parameters(arm, "active")
    per = arm["parameters"]["active_per"] if active else ""
    return DASH if not active else count(active) + (f" ({per})" if per != "all" else "")


def _solved(arm: Mapping[str, Any]) -> str:
    solved = arm["solved"]
    return f"{solved['field']} = {solved['value']} (gap {points(solved['gap'])} %)" if solved else DASH


def _memory(arm: Mapping[str, Any], place: str) -> str:
    return gigabytes((arm["peak_memory"] or {}).get(place))
