"""Questions of a benchmark as samples that the evaluation asks, and their answers scored by the protocol's rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixtune.data.checks import check_images
from mixtune.data.sample import PLACEHOLDER, BadSample, Message, Sample
from mixtune.evaluate.benchmarks.registry import OFFICIAL, Wanted, protocol_of, read_items
from mixtune.evaluate.benchmarks.table import Benchmark, DrawnReader, Item
from mixtune.evaluate.questions import target_of
from mixtune.evaluate.settings import TaskGroup


@dataclass(frozen=True, kw_only=True)
class BenchmarkSample(Sample):
    """A sample that a protocol of the benchmark's `row` scores. `benchmark`: the name it was asked by; all reference
    `answers`; the `cluster` (image) it belongs to; the `group` of its task.
    """

    row: Benchmark = field(compare=False, repr=False)
    benchmark: str
    protocol: str
    answers: tuple[str, ...]
    cluster: str
    group: TaskGroup


def read_benchmark(found: Wanted, protocol: str = OFFICIAL) -> tuple[list[BenchmarkSample], list[BadSample]]:
    """Samples of a benchmark, in the order of its files, and those that cannot be used: rows and pictures alike.

    The caller decides how many may be unusable. Raises ValueError (DataError) where the benchmark cannot be read at
    all, or has no such protocol.
    """
    protocol_of(found.benchmark, protocol)
    if found.benchmark.drawn is not None:
        return _drawn(found, found.benchmark.drawn, protocol), []
    return _read(found, protocol)


def _read(found: Wanted, protocol: str) -> tuple[list[BenchmarkSample], list[BadSample]]:
    samples: list[BenchmarkSample] = []
    bad: list[BadSample] = []
    seen: dict[str, int] = {}
    for item in read_items(found):
        if isinstance(item, BadSample):
            bad.append(item)
            continue
        sample = _sample(item, found, protocol)
        seen[sample.id] = seen.get(sample.id, 0) + 1
        if (times := seen[sample.id]) > 1:  # MME's tables give both questions of a picture the same id
            sample = dataclasses.replace(sample, id=f"{sample.id}#{times}")
        samples.append(sample)
    good, broken = check_images(samples)
    return [sample for sample in good if isinstance(sample, BenchmarkSample)], bad + broken


def _sample(item: Item, found: Wanted, protocol: str) -> BenchmarkSample:
    row = found.benchmark
    rule = row.protocols[protocol]
    task = "/".join(filter(None, (row.name, item.part)))
    asked = rule.rephrase(item.question.replace(PLACEHOLDER, ""))
    question = rule.prompt.replace("{options}", ", ".join(row.options)).replace("{question}", asked)
    return BenchmarkSample(
        id=f"{task}/{item.id}",
        messages=(Message("user", f"{PLACEHOLDER}\n{question}"), Message("assistant", item.answers[0])),
        images=(item.image,),
        task=task,
        options=row.options,
        origin=item.origin,
        row=row,
        benchmark=row.name,
        protocol=protocol,
        answers=item.answers,
        cluster=item.cluster,
        group=TaskGroup(domain=row.name, split=row.name),
    )


def _drawn(found: Wanted, draw: DrawnReader, protocol: str) -> list[BenchmarkSample]:
    drawn = draw(found.name.removeprefix(found.benchmark.name))
    return [
        BenchmarkSample(
            **{each.name: getattr(sample, each.name) for each in dataclasses.fields(Sample)},
            row=found.benchmark,
            benchmark=found.name,
            protocol=protocol,
            answers=(target_of(sample),),
            cluster=Path(sample.images[0].path).name if sample.images else "",
            group=drawn.groups.get(sample.task, TaskGroup()),
        )
        for sample in drawn.samples
    ]


def groups_of(samples: Sequence[Sample]) -> dict[str, TaskGroup]:
    """Domain and split of the benchmarks' tasks; those of a public one are a split of their own, named after it."""
    return {sample.task: sample.group for sample in samples if isinstance(sample, BenchmarkSample)}


def rows_asked(samples: Sequence[Sample]) -> dict[str, Benchmark]:
    """The rows of the table that the samples belong to, by the name they were asked by."""
    return {sample.benchmark: sample.row for sample in samples if isinstance(sample, BenchmarkSample)}


def benchmark_facts(sample: Sample) -> dict[str, Any]:
    """What a row of samples.jsonl has beside the usual fields; nothing for a sample of no benchmark."""
    if not isinstance(sample, BenchmarkSample):
        return {}
    facts = {"benchmark": sample.benchmark, "protocol": sample.protocol}
    return {**facts, "answers": list(sample.answers), "cluster": sample.cluster}


def score_answer(sample: BenchmarkSample, text: str) -> dict[str, Any]:
    """`score`, `read_as`, `details` and `greedy_correct` of a greedy answer.

    `greedy_correct` is None where the rule knows half right: such an answer is neither.
    """
    scored = sample.row.protocols[sample.protocol].score(text, sample.answers, sample.options)
    found = {"score": scored.score, "read_as": scored.read_as, "details": dict(scored.details)}
    return {**found, "greedy_correct": None if scored.graded else bool(scored.score)}


def check_pairs(samples: Sequence[Sample]) -> None:
    """Raises ValueError if an image of a benchmark of pairs (MME) has not exactly two questions."""
    counts: dict[tuple[str, str], int] = {}
    for sample in samples:
        if isinstance(sample, BenchmarkSample) and sample.row.pairs:
            counts[sample.task, sample.cluster] = counts.get((sample.task, sample.cluster), 0) + 1
    odd = [f"{task}: {cluster} has {count}" for (task, cluster), count in counts.items() if count != 2]
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise ValueError(
            f"{'; '.join(odd[:5])}{more}: this benchmark scores two questions an image; leave out no single one "
            "(--per-task must be even, and both of a picture read or none)"
        )
