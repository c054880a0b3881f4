"""What `mixtune evaluate` asks: the pocket suite by name, or files of samples, of the pocket model or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from torch import nn

from mixtune.config import DataSettings, ModelSettings, Settings, SourceSettings
from mixtune.data import Sample, read_samples
from mixtune.evaluate.run import EvaluationResult, evaluate
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.pocket.data import MANIFEST
from mixtune.pocket.prepare import MODEL, PocketPaths, prepare_pocket
from mixtune.training.loading import load_model
from mixtune.training.whole import load_tuned

BENCHMARK = "pocket"
TEST_FILES = ("test_seen.jsonl", "test_unseen.jsonl")


class EvaluationRequest(Settings):
    """Which model (folder, hub id or "pocket") with which adapter answers
    which benchmarks ("pocket" or files of samples).

    ``adapter`` is the folder of a run of any stage. ``per_task`` keeps the first so many samples of every task,
    ``tasks``, if any are named, these tasks alone; at most ``max_bad`` unreadable samples are left out.
    """

    model: str
    benchmarks: tuple[str, ...]
    adapter: Path | None = None
    per_task: int | None = None
    max_bad: int = 0
    tasks: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    attn_implementation: str = "sdpa"


def evaluate_request(request: EvaluationRequest, folder: Path, *, batch_size: int) -> EvaluationResult:
    """Load, question and count; see ``mixtune.evaluate.run.evaluate`` for what is written into ``folder``.

    Raises ValueError naming the model, adapter, file or sample that does not fit.
    """
    uses_pocket = MODEL in (request.model, *request.benchmarks)
    paths = prepare_pocket() if uses_pocket else None
    samples, places = questions(request, paths)
    name = str(paths.model) if paths and request.model == MODEL else request.model
    model, processor = load_model(
        ModelSettings(name_or_path=name, dtype=request.dtype, attn_implementation=request.attn_implementation)
    )
    asked: nn.Module = model if request.adapter is None else load_tuned(model, request.adapter)
    about = {"model": request.model, "adapter": str(request.adapter) if request.adapter else None}
    samples = [sample for sample in samples if not request.tasks or sample.task in request.tasks]
    return evaluate(
        asked, processor, samples, EvaluateSettings(batch_size=batch_size), folder, groups=places, about=about
    )


def questions(request: EvaluationRequest, paths: PocketPaths | None) -> tuple[list[Sample], dict[str, TaskGroup]]:
    """The samples of all benchmarks and where their tasks belong (tasks of files are their own group)."""
    files = [name for name in request.benchmarks if name != BENCHMARK]
    samples: list[Sample] = []
    places: dict[str, TaskGroup] = {}
    if paths and BENCHMARK in request.benchmarks:
        samples, places = suite(paths), groups(paths)
    if files:
        sources = tuple(SourceSettings(path=name) for name in files)
        read, left_out = read_samples(DataSettings(sources=sources, max_bad=request.max_bad))
        samples += read
        for bad in left_out:
            Console(stderr=True, soft_wrap=True, markup=False).print(f"left out {bad}")
    return (samples if request.per_task is None else first_of_each(samples, request.per_task)), places


def groups(paths: PocketPaths) -> dict[str, TaskGroup]:
    """Domain and split ("seen" or "unseen") of every task, from the manifest of the data folder."""
    tasks = json.loads((paths.data / MANIFEST).read_text(encoding="utf-8"))["tasks"]
    return {name: TaskGroup(domain=row["domain"], split=row["split"]) for name, row in tasks.items()}


def suite(paths: PocketPaths) -> list[Sample]:
    """The test samples of all tasks, seen ones first."""
    sources = tuple(SourceSettings(path=str(paths.data / name), format="messages") for name in TEST_FILES)
    return read_samples(DataSettings(sources=sources))[0]


def first_of_each(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first ``count`` samples of every task, in their order."""
    taken: dict[str, int] = {}
    kept = []
    for sample in samples:
        taken[sample.task] = taken.get(sample.task, 0) + 1
        if taken[sample.task] <= count:
            kept.append(sample)
    return kept
