"""A comparison's folder as `mixtune compare` leaves it, made up in code: numbers with a known answer, not real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixtune.evaluate.store import write_json

SEEN = ("bar_count", "digit_handwritten", "letter", "number", "tallest_bar", "trend", "emoji_category", "emoji_choice",
        "flag_country", "shape_colour", "shape_name", "shape_yes_no", "angle_kind", "clock_hour", "function_kind",
        "glass_level", "ring_count", "arrow_direction", "shape_count", "shape_position", "side_shape")  # fmt: skip
UNSEEN = ("digit_printed", "letter_colour", "pie_largest", "category_black", "category_listed", "easy_vqa_colour",
          "easy_vqa_shape", "flag_new", "battery_level", "clock_plain", "function_chalk", "die_dots",
          "emoji_position", "side_colour")  # fmt: skip
DOMAINS = ("document", "general", "science", "spatial")
# What each arm gains over "lora" on seen and on unseen tasks; the specialists answer seen tasks only.
ARMS: dict[str, tuple[float, float | None]] = {
    "base": (-0.42, -0.25), "lora": (0.0, 0.0), "specialists": (0.045, None), "mixlora": (0.031, 0.012),
    "mixlora-published": (0.004, -0.006), "mixlora-released": (-0.06, -0.04), "lora-params": (0.012, 0.004),
    "lora-2x": (0.028, 0.01),
}  # fmt: skip
MIXTURES = {"mixlora": 4_884_480, "mixlora-published": 4_884_480, "mixlora-released": 4_884_480}
NOISE = 0.012  # half an interval of a mean over tasks


def estimate(mean: float, half: float, seeds: int, random: np.random.Generator) -> dict[str, Any]:
    """An estimate with an interval of this half-width."""
    by_seed = (mean + half / 4 * random.standard_normal(seeds)).tolist() if seeds > 1 else [mean]
    ends = {"low": mean - half, "high": mean + half}
    return {"mean": mean, **ends, "seeds": [mean - half, mean + half] if seeds > 1 else None,
            "questions": [mean - half / 2, mean + half / 2], "by_seed": by_seed}  # fmt: skip


def tested(found: dict[str, Any]) -> dict[str, Any]:
    """The same with p-values that agree with its interval."""
    half = (found["high"] - found["low"]) / 2
    p = float(np.exp(-0.75 * (2 * found["mean"] / half) ** 2)) if half else 0.0
    decided = bool(abs(found["mean"]) > half and 2 * p < 0.05)
    return {
        **found,
        "p_questions": p,
        "p": p,
        "p_seeds": 0.25 if found["seeds"] else None,
        "p_holm": min(1.0, 2 * p),
        "decided": decided,
    }


def comparison(
    arms: Mapping[str, tuple[float, float | None]] = ARMS, *, seeds: int = 3, blind: bool = True
) -> dict[str, Any]:
    """comparison.json with 21 seen and 14 unseen tasks, a search, and rows of a paper."""
    tasks = {
        name: {"domain": DOMAINS[number % 4], "split": "seen" if name in SEEN else "unseen", "n": 300, "chance": 0.2}
        for number, name in enumerate((*SEEN, *UNSEEN))
    }
    entry = entry_of(arms, tasks, seeds=seeds, blind=blind)
    return {
        "format": 1,
        "way": "rank",
        "seeds": list(range(seeds)),
        "data_sizes": [],
        "results": [entry],
        "matched": [
            "Every arm takes 400 optimizer steps of 16 samples.",
            "lora-2x: 2 times the steps, so as many times the samples.",
            "specialists: each specialist takes all these steps, on its task alone.",
        ],
        "methods": {
            "interval": "95 %, joined over seeds and questions",
            "decided": "the interval leaves zero out and p_holm is below 0.05",
        },
        "arms": {name: facts_of(name) for name in arms},
        "search": search_of(arms),
        "published": published(),
        "runs": [
            {
                "arm": name,
                "seed": seed,
                "data_size": None,
                "task": task,
                "steps": 400,
                "done": True,
                "folder": f"{name}/seed-{seed}" + (f"/{task}" if task else ""),
            }
            for name in arms
            for seed in range(1 if name == "base" else seeds)
            for task in (SEEN if name == "specialists" else [None])
        ],
        "failed": [],
        "ran": "8 at a time on this machine, 2 thread(s) each, on one GPU",
        "command": "mixtune compare recipes/pocket/compare.yaml",
        "commit": {"hash": "0123abcd" * 5, "dirty": False},
        "settings": {
            "search": {"seed": 0, "steps": None},
            "evaluate": {"validation": ["pocket/valid"], "benchmarks": ["pocket"]},
            "arms": {"specialists": {"search_as": "lora"}, "lora": {"search_as": None}},
        },
        "environment": {"python": "3.11.7", "torch": "2.13.0", "device": "cpu", "threads": "2"},
    }


def entry_of(
    arms: Mapping[str, tuple[float, float | None]], tasks: Mapping[str, Mapping[str, Any]], *, seeds: int, blind: bool
) -> dict[str, Any]:
    """One entry of results: every arm's means, their differences to lora and to the specialists."""
    random = np.random.default_rng(0)
    ground = {task: float(random.uniform(0.35, 0.9)) for task in tasks}
    shift = {arm: {task: float(0.05 * random.standard_normal()) for task in tasks} for arm in arms}
    found: dict[str, Any] = {}
    for arm, gains in arms.items():
        mine = {s: g for s, g in zip(("seen", "unseen"), gains, strict=True) if g is not None}
        inside = [task for task in tasks if tasks[task]["split"] in mine]
        rows = {t: float(np.clip(ground[t] + mine[tasks[t]["split"]] + shift[arm][t], 0.02, 0.98)) for t in inside}
        found[arm] = {
            "seeds": [0] if arm == "base" else list(range(seeds)),
            "splits": {
                split: {
                    **estimate(0.62 + gain, NOISE, seeds, random),
                    "tasks": sum(tasks[t]["split"] == split for t in tasks),
                    "chance": 0.2,
                }
                for split, gain in mine.items()
            },
            "tasks": {task: estimate(value, 0.05, seeds, random) for task, value in rows.items()},
        }
        if blind and arm != "base":
            found[arm]["blind"] = {task: {"mean": 0.31, "low": 0.26, "high": 0.36} for task in rows}
    joint = [arm for arm in arms if arm not in ("base", "specialists")]
    return {
        "data_size": None,
        "tasks": tasks,
        "arms": found,
        "baseline": "lora",
        "differences": {arm: minus(found, arm, "lora", seeds, random) for arm in arms if arm != "lora"}
        if "lora" in arms
        else {},
        "gaps": {"specialists": {arm: minus(found, arm, "specialists", seeds, random) for arm in joint}}
        if "specialists" in arms
        else {},
    }


def minus(found: Mapping[str, Any], arm: str, other: str, seeds: int, random: np.random.Generator) -> dict[str, Any]:
    """One arm minus another, on what both answered."""
    first, second = found[arm], found[other]
    splits = {
        split: tested(
            estimate(first["splits"][split]["mean"] - second["splits"][split]["mean"], 0.8 * NOISE, seeds, random)
        )
        | {"tasks": first["splits"][split]["tasks"]}
        for split in first["splits"]
        if split in second["splits"]
    }
    tasks = {
        task: estimate(first["tasks"][task]["mean"] - second["tasks"][task]["mean"], 0.06, seeds, random)
        for task in first["tasks"] if task in second["tasks"]
    }  # fmt: skip
    return {"seeds": list(range(seeds)), "splits": splits, "tasks": tasks}


def facts_of(arm: str) -> dict[str, Any]:
    """What `arms` says of an arm."""
    empty = {
        "stage": None,
        "preset": None,
        "parameters": None,
        "solved": None,
        "learning_rate": None,
        "specialist_steps": None,
        "samples": None,
        "train_seconds": None,
        "peak_memory": None,
    }
    if arm == "base":
        return {"kind": "untuned", **empty, "models": 1, "steps": [0], "evaluate_seconds": 48.0}
    mixture, special = arm in MIXTURES, arm == "specialists"
    routers = 14_376_960 if arm == "mixlora" else 0
    factors = MIXTURES.get(arm, 18_000_000 if arm == "lora-params" else 1_221_120)
    parameters = {
        "factors": factors,
        "routers": routers,
        "projector": 1_148_544,
        "other": 0,
        "total": factors + routers + 1_148_544,
        "active": factors // 4 + routers if mixture else factors,
        "active_per": "instance" if mixture else "all",
    }
    sizes = {"num_factors": 16} if mixture else {}
    return {
        **empty,
        "kind": "specialists" if special else "joint",
        "stage": "tune",
        "preset": arm if mixture else "lora",
        "scale": 2.0,
        "r": 59 if arm == "lora-params" else 4,
        **sizes,
        "parameters": parameters,
        "learning_rate": 0.001,
        "solved": {"field": "r", "value": 59, "wanted": 18_112_896, "reached": 18_000_000, "gap": -0.006}
        if arm == "lora-params"
        else None,
        "models": 21 if special else 1,
        "steps": [800 if arm == "lora-2x" else 400],
        "specialist_steps": "matched" if special else None,
        "samples": 6400.0,
        "train_seconds": 312.4,
        "evaluate_seconds": 51.2,
        "peak_memory": {"host": 2_600_000_000, "device": 1_900_000_000},
    }


def search_of(arms: Sequence[str] | Mapping[str, Any]) -> list[dict[str, Any]]:
    """A grid of two learning rates and two scales; the best lies at the edge for one arm."""
    points = [
        {"train.learning_rate": rate, "adapter.scaling": scale} for rate in (0.001, 0.003) for scale in (1.0, 2.0)
    ]
    return [
        {
            "arm": arm,
            "point": point,
            "accuracy": 0.5 + 0.01 * number,
            "chosen": number == 3,
            "at_edge": ["adapter.scaling"] if number == 3 and arm == "mixlora" else [],
        }
        for arm in arms
        if arm not in ("base", "specialists")
        for number, point in enumerate(points)
    ]


def published() -> dict[str, Any]:
    """Two rows of a table."""
    columns = ["MME", "Text-VQA", "VSR", "SNLI-VE", "CIFAR-10", "CIFAR-100", "MNIST", "Pope", "MMAvg"]
    lora = [1345.86, 39.44, 53.19, 33.08, 86.62, 47.36, 80.89, 76.89, 59.64]
    rows = [{"arm": arm, "table": "Table 1", "row": {"model": model, "factors": factors, "rank": 4},
             "paper": dict(zip(columns, lora, strict=True)), "run": {**dict.fromkeys(columns), "VSR": 51.25}}
            for arm, model, factors in (("lora", "LoRA", None), ("mixlora", "MixLoRA", 16))]  # fmt: skip
    return {
        "protocol": "conditional-mixlora",
        "source": "Shen et al., ACL 2024",
        "url": "https://aclanthology.org/2024.acl-long.38",
        "rows": rows,
    }


def write_comparison(folder: Path, content: Mapping[str, Any], *, points: int = 40) -> Path:
    """comparison.json and the training logs of its runs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", content)
    random = np.random.default_rng(1)
    for number, run in enumerate(content["runs"]):
        if not points or run["arm"] == "base":
            continue
        place = folder / run["folder"]
        place.mkdir(parents=True, exist_ok=True)
        rate, lines = 1 + number % 5 / 5, []
        for step in range(10, 10 * points + 1, 10):
            level = 0.2 + 4 * np.exp(-step * rate / 80)
            losses = {
                task: round(level * random.uniform(0.7, 1.3), 4) for task in ([run["task"]] if run["task"] else SEEN)
            }
            lines.append(
                json.dumps({"step": step, "loss": float(np.mean(list(losses.values()))), "task_loss": losses}) + "\n"
            )
        (place / "train_log.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder
