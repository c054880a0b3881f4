"""Run folders as an evaluation and a training run leave them, made up in code for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mixtune.evaluate.settings import EvaluateSettings
from mixtune.evaluate.store import write_json
from mixtune.evaluate.summary import summarise_splits, summarise_tasks
from mixtune.evaluate.usage import pack, save_usage

TASKS = {"clock": ("science", "seen"), "letter": ("document", "seen"), "flag": ("general", "unseen")}
LAYERS = [f"model.layers.{depth}.mlp.{kind}" for depth in range(3) for kind in ("up_proj", "down_proj")]
FACTORS, CHOSEN = 6, 2
HOSTILE = 'Is this <b>"1 < 2"</b>? </script><script>alert(1)</script>'


def rows_of(accuracy: Mapping[str, float], folder: Path, *, n: int = 20, routed: bool = False) -> list[dict]:
    """`n` answered samples a task, the first `accuracy * n` right."""
    picture = folder / "picture.png"
    Image.new("RGB", (300, 40), (200, 30, 30)).save(picture)
    rows = []
    for task, (domain, split) in TASKS.items():
        for number in range(n):
            right = number < round(accuracy[task] * n)
            answer = "yes" if right else "no"
            row = {"id": f"{task}-{number:03d}", "task": task, "domain": domain, "split": split}
            row |= {"image": str(picture), "prompt": HOSTILE, "target": "yes", "options": ["yes", "no"]}
            row |= {"ranked": answer, "scores": [-1.0, -2.0], "rank_correct": right}
            row |= {"answer": answer, "greedy_correct": right}
            if routed:
                row["selection"] = pack(choices_of(list(TASKS).index(task), number))
            rows.append(row)
    return rows


def choices_of(task: int, number: int) -> np.ndarray:
    """Even layers choose by task, odd ones by the sample's number (B by half of it); the last factor is never chosen."""
    counts = np.zeros((2, len(LAYERS), FACTORS), dtype=np.uint16)
    for side in (0, 1):
        for layer in range(len(LAYERS)):
            first = task if layer % 2 == 0 else number // (1 + side) % (FACTORS - 2)
            counts[side, layer, [first, first + 1]] = 1
    return counts


def write_evaluation(folder: Path, rows: list[dict]) -> None:
    """results.json, samples.jsonl and, if the rows have selections, usage.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = EvaluateSettings()
    tasks = summarise_tasks(rows, settings)
    results = {"model": "tiny", "adapter": None, "versions": {"torch": "2.0"}, "n": len(rows), "seconds": 2.0}
    write_json(
        folder / "results.json",
        {**results, "tasks": tasks, "summary": summarise_splits(rows, tasks, settings)},
    )
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    save_usage(rows, LAYERS, folder / "usage.safetensors")


def write_training(folder: Path, loss: float) -> None:
    """train_log.jsonl, recipe.yaml and train_result.json; the first line met one task only."""
    records = [
        {"step": 1, "loss": 3 * loss, "learning_rate": 0.1, "tokens": 8, "task_loss": {"clock": 3 * loss}},
        {
            "step": 2,
            "loss": loss,
            "learning_rate": 0.0,
            "tokens": 8,
            "task_loss": {"clock": loss, "letter": loss},
        },
    ]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "recipe.yaml").write_text("adapter:\n  preset: '<made up>'\n")
    result = {"parameters": {"factors": 1234567, "routers": 0, "projector": 10, "other": 0}}
    write_json(folder / "train_result.json", {**result, "metrics": {"seconds": 150.0, "tokens": 16, "samples": 8}})


def fake_run(folder: Path, accuracies: Mapping[str, Mapping[str, float]]) -> Path:
    """A run folder with one model a label; all but "untuned" were trained, "mixlora" has routing."""
    for label, accuracy in accuracies.items():
        home = folder / label
        home.mkdir(parents=True)
        write_evaluation(home / "evaluation", rows_of(accuracy, home, routed=label == "mixlora"))
        if label != "untuned":
            write_training(home, loss=0.5 if label == "mixlora" else 0.6)
    return folder


USUAL = {
    "untuned": {"clock": 0.5, "letter": 0.4, "flag": 0.5},
    "lora": {"clock": 0.6, "letter": 0.5, "flag": 0.5},
    "mixlora": {"clock": 0.9, "letter": 0.9, "flag": 0.55},
}
