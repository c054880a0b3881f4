"""The end of a run: its numbers read from its log, its files written so that the last one says "complete"."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixtune.config import Recipe
from mixtune.training import checkpoint as store
from mixtune.training.card import CardFacts, write_card
from mixtune.training.environment import peak_memory, versions
from mixtune.training.logfile import LOG_FILE, read_log
from mixtune.training.setup import Prepared


def run_metrics(folder: Path) -> dict[str, Any]:
    """Totals of a run's log: steps, samples, tokens, seconds, and the loss and task losses of the last tenth of it.

    Losses are token-weighted means over the log lines of the last tenth of the steps (at least one line); a task's
    loss weights those lines by the task's samples.
    """
    log = read_log(folder / LOG_FILE)
    if not log:
        return {}
    last = log[-1]["step"]
    late = [record for record in log if record["step"] > 0.9 * last]
    tokens = sum(record["tokens"] for record in late)
    task_sums: Counter[str] = Counter()
    task_counts: Counter[str] = Counter()
    for record in late:
        for task, loss in record["task_loss"].items():
            task_sums[task] += loss * record["task_samples"][task]
            task_counts[task] += record["task_samples"][task]
    return {
        "steps": last,
        "samples": sum(sum(record["task_samples"].values()) for record in log),
        "tokens": sum(record["tokens"] for record in log),
        "seconds": log[-1]["seconds"],
        "loss": sum(record["loss"] * record["tokens"] for record in late) / max(tokens, 1),
        "task_loss": {task: task_sums[task] / task_counts[task] for task in sorted(task_sums)},
    }


def save_run(folder: Path, recipe: Recipe, prepared: Prepared, tasks: Sequence[str]) -> dict[str, Any]:
    """Write the trained weights and the card, each file by one rename, then train_result.json; return the metrics."""
    metrics = run_metrics(folder)
    counts = dict(sorted(Counter(tasks).items()))
    draft = folder / f"{store.DRAFT}final"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    prepared.trained.save(draft)
    shown = {name: round(value, 4) for name, value in metrics.items() if not isinstance(value, dict)}
    facts = CardFacts(tasks=counts, parameters=prepared.parameters, metrics=shown, versions=versions())
    write_card(draft, recipe, facts)
    for path in sorted(draft.iterdir()):
        os.replace(path, folder / path.name)
    draft.rmdir()
    result = {
        "base": prepared.base,
        "base_fingerprint": prepared.fingerprint,
        "metrics": metrics,
        "parameters": prepared.parameters,
        "peak_memory": peak_memory(),
        "tasks": counts,
        "versions": versions(),
    }
    store.write_atomic(folder / store.RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return metrics
