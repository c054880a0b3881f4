"""What `mixtune evaluate` asks: the pocket suite by name, or files of samples, of the pocket model or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from torch import nn

from mixtune.config import DataSettings, ModelSettings, Settings, SourceSettings
from mixtune.data import BadSample, Sample, read_samples
from mixtune.evaluate.benchmarks.registry import OFFICIAL
from mixtune.evaluate.benchmarks.samples import ask_benchmark
from mixtune.evaluate.preflight import check_adapter, check_writable
from mixtune.evaluate.run import EvaluationResult, evaluate
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.pocket.data import MANIFEST
from mixtune.pocket.prepare import MODEL, PocketPaths, prepare_pocket
from mixtune.training.loading import load_model
from mixtune.training.parts import load_adapter

BENCHMARK = "pocket"
TEST_FILES = ("test_seen.jsonl", "test_unseen.jsonl")


class EvaluationRequest(Settings):
    """Which model (folder, hub id or "pocket") with which adapter answers
    which benchmarks ("pocket", public ones by name, or files of samples).

    ``per_task`` keeps the first so many samples of every task; at most ``max_bad`` unreadable samples are left out.
    ``protocol`` is the harness whose rules score public benchmarks; ``rank`` and ``greedy`` are the ways to answer;
    a prompt has at most ``max_length`` tokens.
    Without ``resume`` answers found in the folder are discarded.
    """

    model: str
    benchmarks: tuple[str, ...]
    adapter: Path | None = None
    per_task: int | None = None
    max_bad: int = 0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    attn_implementation: str = "sdpa"
    protocol: str = OFFICIAL
    rank: bool = True
    greedy: bool = True
    max_length: int = 1024
    resume: bool = True


def evaluate_request(request: EvaluationRequest, folder: Path, *, batch_size: int) -> EvaluationResult:
    """Load, question and count; see ``mixtune.evaluate.run.evaluate`` for what is written into ``folder``.

    Raises ValueError naming the model, adapter, file or sample that does not fit.
    """
    check_writable(folder)
    if request.adapter is not None:
        check_adapter(request.adapter)
    uses_pocket = MODEL in (request.model, *request.benchmarks)
    paths = prepare_pocket() if uses_pocket else None
    samples, places = questions(request, paths)
    name = str(paths.model) if paths and request.model == MODEL else request.model
    model, processor = load_model(
        ModelSettings(name_or_path=name, dtype=request.dtype, attn_implementation=request.attn_implementation)
    )
    asked: nn.Module = model if request.adapter is None else load_adapter(model, request.adapter)
    about = {"model": request.model, "adapter": str(request.adapter) if request.adapter else None}
    kept = request.model_dump(include={"rank", "greedy", "resume", "max_length"})
    settings = EvaluateSettings(batch_size=batch_size, **kept)
    return evaluate(asked, processor, samples, settings, folder, groups=places, about=about)


def questions(request: EvaluationRequest, paths: PocketPaths | None) -> tuple[list[Sample], dict[str, TaskGroup]]:
    """The samples of all benchmarks and where their tasks belong (tasks of files are their own group)."""
    samples: list[Sample] = []
    places: dict[str, TaskGroup] = {}
    allowed, files = request.max_bad, []
    if paths and BENCHMARK in request.benchmarks:
        samples, places = suite(paths), groups(paths)
    for name in request.benchmarks:
        public = None if name == BENCHMARK else ask_benchmark(name, protocol=request.protocol, max_bad=allowed)
        if public is not None:
            samples, places = samples + public.samples, places | public.groups
            allowed -= len(public.left_out)
            say_left_out(public.left_out)
        elif name != BENCHMARK:
            files.append(name)
    if files:
        sources = tuple(SourceSettings(path=name) for name in files)
        read, left_out = read_samples(DataSettings(sources=sources, max_bad=allowed))
        samples += read
        say_left_out(left_out)
    return (samples if request.per_task is None else first_of_each(samples, request.per_task)), places


def say_left_out(bad: Sequence[BadSample]) -> None:
    """List the samples left out as unreadable."""
    for each in bad:
        Console(stderr=True, soft_wrap=True, markup=False).print(f"left out {each}")


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
