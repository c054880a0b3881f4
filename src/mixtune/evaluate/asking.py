"""From the names on a command line to the questions a model is asked."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mixtune.config import DataSettings, Settings, SourceSettings, near
from mixtune.data import Sample, read_samples
from mixtune.data.checks import check_bad
from mixtune.data.sample import BadSample, DataError
from mixtune.evaluate.benchmarks.registry import BENCHMARKS, OFFICIAL, wanted
from mixtune.evaluate.benchmarks.samples import BenchmarkSample, read_benchmark
from mixtune.evaluate.benchmarks.table import Benchmark
from mixtune.evaluate.blind import SUFFIX, blind


class EvaluationRequest(Settings):
    """Which model (folder or hub id) with which adapter answers which benchmarks (see `ask`).

    ``adapter`` is the folder of a run of any stage. ``per_task`` keeps so many samples of every task (`some_of_each`),
    ``tasks``, if any are named, these tasks alone; at most ``max_bad`` unreadable samples are left out. ``images`` is a
    folder in which pictures of public benchmarks are looked for too. ``protocol`` is the harness whose rules score
    benchmarks; ``rank`` and ``greedy`` are the ways to answer; a prompt has at most ``max_length`` tokens.
    Without ``resume`` answers found in the folder are discarded.
    """

    model: str
    benchmarks: tuple[str, ...]
    adapter: Path | None = None
    per_task: int | None = None
    max_bad: int = 0
    images: Path | None = None
    tasks: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    attn_implementation: str = "sdpa"
    protocol: str = OFFICIAL
    rank: bool = True
    greedy: bool = True
    max_length: int = 1024
    resume: bool = True


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Samples to be asked, and what was left out as unreadable."""

    samples: list[Sample]
    left_out: list[BadSample]


def questions(request: EvaluationRequest, table: Mapping[str, Benchmark] = BENCHMARKS) -> Asked:
    """The samples of all benchmarks of a request.

    Raises DataError listing the unreadable ones when they are more than ``max_bad``, and ValueError when a blind
    control is asked beside another benchmark: one task would count both.
    """
    blinded = [name for name in request.benchmarks if name.endswith(SUFFIX)]
    if blinded and len(blinded) < len(request.benchmarks):
        raise ValueError(f"benchmarks: {blinded[0]!r} is a blind control; evaluate it apart from what is not")
    samples: list[Sample] = []
    bad: list[BadSample] = []
    for name in request.benchmarks:
        asked = ask(name, table, protocol=request.protocol, images=request.images)
        samples, bad = samples + asked.samples, bad + asked.left_out
    check_bad(bad, request.max_bad)
    samples = _of_tasks(samples, request.tasks) if request.tasks else samples
    samples = samples if request.per_task is None else some_of_each(samples, request.per_task)
    return Asked(samples=samples, left_out=bad)


def ask(
    name: str,
    table: Mapping[str, Benchmark] = BENCHMARKS,
    *,
    protocol: str = OFFICIAL,
    images: Path | None = None,
) -> Asked:
    """One benchmark of the ``table`` (see `wanted` for how it is named), or a file of samples.

    With ":blind" appended every sample shows the picture of another one of its task (see `mixtune.evaluate.blind`).
    However many samples are unreadable, they are left out, unless nothing else is there. Raises ValueError naming the
    benchmark, file or sample that does not fit.
    """
    plain = name.removesuffix(SUFFIX)
    found = wanted(plain, table, images)
    samples: Sequence[Sample]
    if found is not None:
        samples, bad = read_benchmark(found, protocol)
    else:
        samples, bad = read_samples(DataSettings(sources=(SourceSettings(path=plain),), max_bad=sys.maxsize))
    if not samples:
        check_bad(bad, 0)
        raise DataError(f"--benchmark {plain}: holds no readable sample")
    return Asked(samples=list(samples) if plain == name else blind(samples), left_out=bad)


def _of_tasks(samples: Sequence[Sample], tasks: Sequence[str]) -> list[Sample]:
    """The samples of these tasks. Raises ValueError for one that has none."""
    known = sorted({sample.task for sample in samples})
    for task in tasks:
        if task not in known:
            raise ValueError(f"--task {task}: no question belongs to it{near(task, known)}")
    return [sample for sample in samples if sample.task in tasks]


def some_of_each(samples: Sequence[Sample], count: int) -> list[Sample]:
    """``count`` samples of every task, in the order given: always the same ones, and all of them again among more.

    A drawn benchmark is in balanced order, so these are its first. Of other files, which are often sorted by answer or
    by picture, they are those whose cluster (picture; without one the id) has the smallest SHA-256, so that questions
    about one picture stay together.
    """
    tasks: dict[str, list[tuple[str, int]]] = {}
    for place, sample in enumerate(samples):
        tasks.setdefault(sample.task, []).append((_lot(sample), place))
    kept = {place for lots in tasks.values() for _, place in sorted(lots)[:count]}
    return [sample for place, sample in enumerate(samples) if place in kept]


def _lot(sample: Sample) -> str:
    """What decides a sample's turn."""
    if isinstance(sample, BenchmarkSample) and sample.row.drawn:
        return ""
    picture = str(sample.images[0].path) if sample.images else ""
    cluster = sample.cluster if isinstance(sample, BenchmarkSample) else Path(picture).name
    return hashlib.sha256(f"{sample.task} {cluster or sample.id}".encode()).hexdigest()
