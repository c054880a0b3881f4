"""What a report is made from: for every model its evaluation and, if it was tuned, its training folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixtune.config import near, portable
from mixtune.evaluate.store import RESULTS, SAMPLES, read_lines
from mixtune.evaluate.usage import USAGE

EVALUATION, LOG, RECIPE, BUDGET = "evaluation", "train_log.jsonl", "recipe.yaml", "train_result.json"


@dataclass(frozen=True, kw_only=True)
class RunFolders:
    """Where one model's files lie: `evaluation` (results.json, samples.jsonl, usage.safetensors if it is a mixture)
    and `training` (train_log.jsonl, recipe.yaml, train_result.json), None for a model that was not tuned.
    """

    evaluation: Path
    training: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model as the report shows it. `log` holds train_log.jsonl's records, `budget` what
    train_result.json says (`parameters` trained by part, `metrics`).
    """

    label: str
    results: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    log: Sequence[Mapping[str, Any]] = ()
    recipe: str = ""
    budget: Mapping[str, Any] = field(default_factory=dict)
    usage: Path | None = None

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """The results of each task."""
        return self.results["tasks"]


def run_folders(run_dir: str | Path) -> dict[str, RunFolders]:
    """The models of a run folder: each sub-folder with ``evaluation/results.json`` is one, named after the folder; it
    was tuned if ``train_log.jsonl`` lies beside ``evaluation``.
    """
    folders = {}
    for path in sorted(Path(run_dir).glob(f"*/{EVALUATION}/{RESULTS}")):
        home = path.parent.parent
        folders[home.name] = RunFolders(evaluation=path.parent, training=home if (home / LOG).exists() else None)
    return folders


def find_runs(run_dir: str | Path) -> dict[str, RunFolders]:
    """`run_folders`, of which there must be one. Raises ValueError if there is none."""
    folders = run_folders(run_dir)
    if not folders:
        raise ValueError(f"{run_dir}: no */{EVALUATION}/{RESULTS} in it; evaluate at least one model first")
    return folders


def read_run(label: str, folders: RunFolders) -> Run:
    """Read one model's files; settings in them lose paths of this machine. Raises ValueError naming the file that is
    missing or not JSON.
    """
    results, samples = folders.evaluation / RESULTS, folders.evaluation / SAMPLES
    for path in (results, samples):
        if not path.exists():
            raise ValueError(f"{path}: missing; the evaluation of {label!r} has not finished")
    usage, training = folders.evaluation / USAGE, folders.training
    recipe = training / RECIPE if training else None
    return Run(
        label=label,
        results=portable(_read_json(results)),
        rows=read_lines(samples),
        log=read_lines(training / LOG) if training and (training / LOG).exists() else (),
        recipe=portable(recipe.read_text(encoding="utf-8")) if recipe and recipe.exists() else "",
        budget=_read_json(training / BUDGET) if training and (training / BUDGET).exists() else {},
        usage=usage if usage.exists() else None,
    )


def read_runs(folders: Mapping[str, RunFolders], subject: str, baseline: str) -> list[Run]:
    """All models: subject, baseline, then the rest. Raises ValueError for an unknown name."""
    for name, field_name in ((subject, "subject"), (baseline, "baseline")):
        if name not in folders:
            raise ValueError(f"{field_name}: {name!r} is not among the runs{near(name, list(folders))}")
    order = [subject, *([baseline] if baseline != subject else [])]
    order += [label for label in folders if label not in order]
    return [read_run(label, folders[label]) for label in order]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
