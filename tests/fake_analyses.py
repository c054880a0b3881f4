"""interference.json and routing.json as the analyses leave them, made up in code with fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fake_comparison import DOMAINS, SEEN, UNSEEN
from mixtune.analyse.interference.results import summaries
from mixtune.evaluate.store import write_json

DEPTHS = (("shallow", 5), ("middle", 15), ("deep", 25))
LINEARS = ("q_proj", "v_proj", "up_proj")
ABOUT = {
    "model": "pocket",
    "preset": None,
    "data": ["pocket/test_seen"],
    "versions": {"mixtune": "0.1.0", "torch": "2.13.0"},
    "environment": {"system": "Linux"},
    "seconds": 171.2,
}


def group(
    side: str, kind: str, name: str, layers: Sequence[int], values: np.ndarray, silent: Sequence[str]
) -> dict[str, Any]:
    """One group with intervals of one width; rows of `silent` tasks are undecided."""
    half = 0.12
    score = {
        "value": values.round(4).tolist(),
        "low": (values - half).round(4).tolist(),
        "high": (values + half).round(4).tolist(),
    }
    return {
        "side": side,
        "name": name,
        "kind": kind,
        "layers": list(layers),
        "linears": list(LINEARS),
        "modules": 3,
        "module": None,
        "score": score,
        "undecided": list(silent),
    }


def interference(
    tasks: Sequence[str] = SEEN, *, hurt: float = -0.6, silent: int = 4, adapter: str = "runs/demo/lora"
) -> dict[str, Any]:
    """Scores around zero, but for two deep pairs of B that hurt by `hurt` and neighbours that help; the last `silent`
    tasks say nothing.
    """
    random, count, groups = np.random.default_rng(2), len(tasks), []
    quiet = tasks[count - silent :]
    for side in "AB":
        places = [
            ("all", "all", [5, 15, 25]),
            *(("depth", name, [layer]) for name, layer in DEPTHS),
            *(("linear", name, [5, 15, 25]) for name in LINEARS),
        ]
        for kind, name, layers in places:
            values = 0.1 * random.standard_normal((count, count))
            values += 0.3 * (np.abs(np.subtract.outer(np.arange(count), np.arange(count))) == 1)
            if side == "B" and name in ("deep", "all"):
                values[0, 2] = values[2, 0] = hurt
            np.fill_diagonal(values, 1.0)
            groups.append(group(side, kind, name, layers, values, quiet))
    return {
        "format": "mixtune-interference/1",
        **ABOUT,
        "adapter": adapter,
        "fingerprint": "0" * 16,
        "samples": 100 * count,
        "settings": {"layers": "shallow,middle,deep", "per_task": 100, "confidence": 0.95},
        "cost_ratio": 0.8,
        "tasks": [
            {"name": t, "domain": DOMAINS[i % 4], "split": "seen", "directions": 50, "measured": 50}
            for i, t in enumerate(tasks)
        ],
        "groups": groups,
        "banks": [],
        "summary": summaries(groups, list(tasks)),
    }


def routing(
    *, learnt: float = 0.1, per_task: int = 12, tokens: bool = False, adapter: str = "runs/demo/mixlora"
) -> dict[str, Any]:
    """A router whose choices tell the task `learnt` more often than an untrained one's."""
    random, names = np.random.default_rng(3), (*SEEN, *UNSEEN)
    layers = [
        f"model.layers.{depth}.mlp.{kind}" for depth in range(30) for kind in ("gate_proj", "up_proj", "down_proj")
    ]
    numbers = np.repeat(np.arange(len(names)), per_task)
    told = {"trained": 0.3, "untrained": 0.25}

    def measures(router: str) -> dict[str, Any]:
        told_by = {side: round(float(told[router] * random.uniform(0.5, 1.5)), 4) for side in "ab"}
        counts = {"evenness": {"a": 0.6, "b": 0.7}, "dead_share": {"a": 0.4, "b": 0.3}}
        return {"entropy": 2.6, **counts, "task_information": told_by}

    def overlap() -> dict[str, Any]:
        shares = 0.5 + 0.1 * random.standard_normal((len(names), len(names)))
        return {key: np.clip(shares, 0, 1).round(3).tolist() for key in ("shared", "jaccard", "cosine")}

    maps = []
    for place in ("all", "shallow", "deep"):
        for router in told:
            centres = random.uniform(-0.9, 0.9, (len(names), 2))[numbers] + 0.06 * random.standard_normal(
                (len(numbers), 2)
            )
            maps.append(
                {
                    "name": place,
                    "layers": [5],
                    "router": router,
                    "x": centres[:, 0].round(4).tolist(),
                    "y": centres[:, 1].round(4).tolist(),
                }
            )
    distance = random.uniform(0.1, 0.6, (2, len(layers))).round(4).tolist()
    return {
        "format": "mixtune-routing/1",
        **ABOUT,
        "adapter": adapter,
        "routes": "tokens" if tokens else "instances",
        "samples": len(numbers),
        "settings": {"layers": "shallow,deep", "per_task": per_task, "neighbours": 5},
        "maps": maps,
        "tasks": [
            {"name": t, "domain": DOMAINS[i % 4], "split": "seen" if t in SEEN else "unseen", "samples": per_task}
            for i, t in enumerate(names)
        ],
        "layers": [
            {
                "name": n,
                "depth": i // 3,
                "linear": n.rsplit(".", 1)[-1],
                "size": 16,
                **measures("trained"),
                "untrained": measures("untrained"),
            }
            for i, n in enumerate(layers)
        ],
        "usage": {},
        "overlap": {"tasks": list(names), **overlap(), "untrained": overlap()},
        "tokens": {"distance": distance[0], "untrained": {"distance": distance[1]}} if tokens else None,
        "summary": {
            router: {"entropy": 2.6, "evenness": 0.65, "dead_share": 0.35, "task_information": told[router]}
            for router in told
        },
        "purity": [
            purity(place, split, learnt) for place in ("all", "shallow", "deep") for split in ("all", "seen", "unseen")
        ],
        "points": {"id": [f"{names[n]}-{i}" for i, n in enumerate(numbers)], "task": numbers.tolist()},
    }


def purity(place: str, split: str, learnt: float) -> dict[str, Any]:
    """One row of purities; the difference is told from zero if it is above 3 points."""
    before, after = 0.6, 0.6 + learnt
    return {"name": place, "layers": [5], "split": split, "neighbours": 5, "samples": 420, "chance": 0.05,
            "trained": {"accuracy": after, "low": after - 0.04, "high": after + 0.04},
            "untrained": {"accuracy": before, "low": before - 0.04, "high": before + 0.04},
            "difference": {"value": learnt, "low": learnt - 0.03, "high": learnt + 0.03}}  # fmt: skip


def write_analyses(folder: Path, **contents: dict[str, Any]) -> Path:
    """Each content in a folder named after it: interference/interference.json, routing/routing.json."""
    for name, content in contents.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_json(folder / name / f"{name}.json", content)
    return folder
