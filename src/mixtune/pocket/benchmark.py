"""What `mixtune evaluate` asks: the pocket suite by name, or files of samples, of the pocket model or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from mixtune.config import DataSettings, ModelSettings, Settings, SourceSettings, near
from mixtune.data import Sample, read_samples
from mixtune.evaluate.benchmarks.registry import OFFICIAL
from mixtune.evaluate.benchmarks.samples import ask_benchmark
from mixtune.evaluate.blind import SUFFIX, blind
from mixtune.evaluate.preflight import check_adapter, check_writable
from mixtune.evaluate.run import EvaluationResult, evaluate
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.pocket.data import MANIFEST
from mixtune.pocket.prepare import MODEL, NATURAL, SPLITS, mix_file, prepare_mix, prepare_pocket
from mixtune.training.loading import load_model, placed
from mixtune.training.whole import load_tuned

BENCHMARK = "pocket"
TESTS = ("test_seen", "test_unseen")


class EvaluationRequest(Settings):
    """Which model (folder, hub id or "pocket") with which adapter answers which benchmarks (see `ask`).

    ``adapter`` is the folder of a run of any stage. ``per_task`` keeps the first so many samples of every task,
    ``tasks``, if any are named, these tasks alone; at most ``max_bad`` unreadable samples are left out.
    ``protocol`` is the harness whose rules score public benchmarks; ``rank`` and ``greedy`` are the ways to answer;
    a prompt has at most ``max_length`` tokens.
    Without ``resume`` answers found in the folder are discarded.
    """

    model: str
    benchmarks: tuple[str, ...]
    adapter: Path | None = None
    per_task: int | None = None
    max_bad: int = 0
    tasks: tuple[str, ...] = ()
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
    samples, places = questions(request)
    name = str(prepare_pocket().model) if request.model == MODEL else request.model
    model, processor = load_model(
        ModelSettings(name_or_path=name, dtype=request.dtype, attn_implementation=request.attn_implementation)
    )
    asked = placed(model if request.adapter is None else load_tuned(model, request.adapter))
    about = {"model": request.model, "adapter": str(request.adapter) if request.adapter else None}
    kept = request.model_dump(include={"rank", "greedy", "resume", "max_length"})
    settings = EvaluateSettings(batch_size=batch_size, **kept)
    return evaluate(asked, processor, samples, settings, folder, groups=places, about=about)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a benchmark asks: its samples, the groups of its tasks, and how many unreadable samples were left out."""

    samples: list[Sample]
    groups: dict[str, TaskGroup]
    left_out: int = 0


def questions(request: EvaluationRequest) -> tuple[list[Sample], dict[str, TaskGroup]]:
    """The samples of all benchmarks and where their tasks belong (tasks of files are their own group).

    Raises ValueError when a blind control is asked beside another benchmark: one task would count both.
    """
    blinded = [name for name in request.benchmarks if name.endswith(SUFFIX)]
    if blinded and len(blinded) < len(request.benchmarks):
        raise ValueError(f"benchmarks: {blinded[0]!r} is a blind control; evaluate it apart from what is not")
    samples: list[Sample] = []
    places: dict[str, TaskGroup] = {}
    allowed = request.max_bad
    for name in request.benchmarks:
        asked = ask(name, max_bad=allowed, protocol=request.protocol)
        samples, places, allowed = samples + asked.samples, places | asked.groups, allowed - asked.left_out
    samples = samples if not request.tasks else _of_tasks(samples, request.tasks)
    return (samples if request.per_task is None else first_of_each(samples, request.per_task)), places


def _of_tasks(samples: Sequence[Sample], tasks: Sequence[str]) -> list[Sample]:
    """The samples of these tasks. Raises ValueError for one that has none."""
    known = sorted({sample.task for sample in samples})
    for task in tasks:
        if task not in known:
            raise ValueError(f"--task {task}: no question belongs to it{near(task, known)}")
    return [sample for sample in samples if sample.task in tasks]


def ask(name: str, *, max_bad: int = 0, protocol: str = OFFICIAL) -> Benchmark:
    """One benchmark by name.

    ``name`` is "pocket" (the demo's test samples), "pocket/SPLIT" of the demo, "pocket/MIX" or "pocket/MIX/SPLIT" (see
    `mixtune.pocket.prepare.prepare_mix`; all test samples where no split is named), a public
    benchmark (see `mixtune.evaluate.benchmarks.registry.wanted`, scored by ``protocol``), or a file of samples. With
    ":blind" appended every sample shows the picture of another one of its task (see `mixtune.evaluate.blind`). Raises
    ValueError naming the mix, split, file or sample that does not fit.
    """
    plain = name.removesuffix(SUFFIX)
    found = _pocket(plain) if plain.split("/")[0] == BENCHMARK else _other(plain, max_bad, protocol)
    return found if plain == name else replace(found, samples=blind(found.samples))


def _other(name: str, max_bad: int, protocol: str) -> Benchmark:
    """A public benchmark, or a file of samples."""
    places: dict[str, TaskGroup] = {}
    if (public := ask_benchmark(name, protocol=protocol, max_bad=max_bad)) is not None:
        read, places, left_out = public.samples, public.groups, public.left_out
    else:
        read, left_out = read_samples(DataSettings(sources=(SourceSettings(path=name),), max_bad=max_bad))
    for bad in left_out:
        Console(stderr=True, soft_wrap=True, markup=False).print(f"left out {bad}")
    return Benchmark(samples=read, groups=places, left_out=len(left_out))


def _pocket(name: str) -> Benchmark:
    rest = name.partition("/")[2]
    splits: tuple[str, ...] = TESTS
    if not rest or rest in SPLITS:
        data, splits = prepare_pocket(captions=rest == "captions").data, (rest,) if rest else TESTS
    else:
        try:
            mix, split = mix_file(rest)
        except ValueError as error:
            raise ValueError(f"benchmark {name!r}: {error}") from None
        data = prepare_mix(mix)
        if "/" in rest or mix != NATURAL:
            splits = (split if "/" in rest else "test",)
    return Benchmark(samples=suite(data, splits), groups=groups(data))


def groups(data: Path) -> dict[str, TaskGroup]:
    """Domain and split ("seen" or "unseen") of every task, from the manifest of a data folder."""
    tasks = json.loads((data / MANIFEST).read_text(encoding="utf-8"))["tasks"]
    return {name: TaskGroup(domain=row["domain"], split=row["split"]) for name, row in tasks.items()}


def suite(data: Path, splits: Sequence[str] = TESTS) -> list[Sample]:
    """The samples of a data folder's splits; by default the test samples of all tasks, seen ones first."""
    sources = tuple(SourceSettings(path=str(data / f"{name}.jsonl"), format="messages") for name in splits)
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
