"""Questions of a benchmark as samples that the evaluation asks, and their answers scored by the protocol's rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixtune.data.checks import check_bad, check_images
from mixtune.data.sample import PLACEHOLDER, BadSample, DataError, Message, Sample
from mixtune.evaluate.benchmarks.registry import BENCHMARKS, OFFICIAL, Wanted, protocol_of, read_items, wanted
from mixtune.evaluate.benchmarks.table import Item
from mixtune.evaluate.settings import TaskGroup


@dataclass(frozen=True)
class BenchmarkSample(Sample):
    """A sample that a benchmark's protocol scores: all reference `answers`, the `cluster` (image) it belongs to, and
    the most tokens its answer may have.
    """

    benchmark: str = ""
    protocol: str = OFFICIAL
    answers: tuple[str, ...] = ()
    cluster: str = ""
    max_new_tokens: int = 16


def read_benchmark(found: Wanted, protocol: str = OFFICIAL) -> tuple[list[BenchmarkSample], list[BadSample]]:
    """Samples of a benchmark, in the order of its files, and those that cannot be used: rows and pictures alike.

    The caller decides how many may be unusable. Raises ValueError (DataError) where the benchmark cannot be read at
    all, or has no such protocol.
    """
    protocol_of(found.benchmark.name, protocol)
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
        benchmark=row.name,
        protocol=protocol,
        answers=item.answers,
        cluster=item.cluster,
        max_new_tokens=row.max_new_tokens,
    )


def groups_of(samples: Sequence[Sample]) -> dict[str, TaskGroup]:
    """Every benchmark's tasks are a split of their own, named after it."""
    mine = [sample for sample in samples if isinstance(sample, BenchmarkSample)]
    return {sample.task: TaskGroup(domain=sample.benchmark, split=sample.benchmark) for sample in mine}


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
    scored = protocol_of(sample.benchmark, sample.protocol).score(text, sample.answers, sample.options)
    found = {"score": scored.score, "read_as": scored.read_as, "details": dict(scored.details)}
    return {**found, "greedy_correct": None if scored.graded else bool(scored.score)}


def check_pairs(samples: Sequence[Sample]) -> None:
    """Raises ValueError if an image of a benchmark of pairs (MME) has not exactly two questions."""
    counts: dict[tuple[str, str], int] = {}
    for sample in samples:
        if isinstance(sample, BenchmarkSample) and BENCHMARKS[sample.benchmark].pairs:
            counts[sample.task, sample.cluster] = counts.get((sample.task, sample.cluster), 0) + 1
    odd = [f"{task}: {cluster} has {count}" for (task, cluster), count in counts.items() if count != 2]
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise ValueError(
            f"{'; '.join(odd[:5])}{more}: this benchmark scores two questions an image; leave out no single one "
            "(--per-task must be even, and both of a picture read or none)"
        )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a benchmark asks: its samples, the groups of their tasks, and what was left out as unreadable."""

    samples: list[Sample]
    groups: dict[str, TaskGroup]
    left_out: list[BadSample]


def ask_benchmark(text: str, *, protocol: str = OFFICIAL, max_bad: int = 0) -> Asked | None:
    """What an entry of `--benchmark` asks (`wanted` says how it is written); None if it is a file of samples.

    Raises ValueError for names and protocols that are none, and DataError listing the unreadable samples when they are
    more than `max_bad` or nothing is left.
    """
    found = wanted(text)
    if found is None:
        return None
    samples, bad = read_benchmark(found, protocol)
    check_bad(bad, max_bad)
    if not samples:
        raise DataError(f"--benchmark {text}: holds no readable sample")
    return Asked(samples=list(samples), groups=groups_of(samples), left_out=bad)
