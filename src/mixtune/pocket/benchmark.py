"""The pocket suite as an evaluation: its test samples, and where each task belongs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mixtune.config import DataSettings, SourceSettings
from mixtune.data import Sample, read_samples
from mixtune.evaluate.settings import TaskGroup
from mixtune.pocket.prepare import PocketPaths

BENCHMARK = "pocket"
TEST_FILES = ("test_seen.jsonl", "test_unseen.jsonl")


def groups(paths: PocketPaths) -> dict[str, TaskGroup]:
    """Domain and split ("seen" or "unseen") of every task, from the manifest of the data folder."""
    tasks = json.loads((paths.data / "data.json").read_text(encoding="utf-8"))["tasks"]
    return {name: TaskGroup(domain=row["domain"], split=row["split"]) for name, row in tasks.items()}


def suite(paths: PocketPaths, *, per_task: int | None = None) -> list[Sample]:
    """The test samples of all tasks, or the first ``per_task`` of each."""
    sources = tuple(SourceSettings(path=str(paths.data / name), format="messages") for name in TEST_FILES)
    samples, _ = read_samples(DataSettings(sources=sources))
    return samples if per_task is None else first_of_each(samples, per_task)


def first_of_each(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first ``count`` samples of every task, in their order."""
    taken: dict[str, int] = {}
    kept = []
    for sample in samples:
        taken[sample.task] = taken.get(sample.task, 0) + 1
        if taken[sample.task] <= count:
            kept.append(sample)
    return kept
