"""Two finished evaluations on the same samples: paired differences, written and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixtune.config import near
from mixtune.evaluate.benchmarks.registry import BENCHMARKS, protocol_of, row_of
from mixtune.evaluate.benchmarks.results import headlines_of, numbers_of, rows_by_benchmark
from mixtune.evaluate.benchmarks.table import Benchmark
from mixtune.evaluate.metrics import Row, task_mean
from mixtune.evaluate.numbers import compare_numbers
from mixtune.evaluate.store import AGAINST, RESULTS, SAMPLES, read_lines, write_json
from mixtune.evaluate.summary import WAYS


def check_finished(folder: str | Path) -> Path:
    """The folder, if a finished evaluation lies in it. Raises ValueError naming the file that is missing."""
    folder = Path(folder)
    for name in (RESULTS, SAMPLES):
        if not (folder / name).is_file():
            raise ValueError(f"--against {folder}: holds no finished evaluation ({name} is missing)")
    return folder


def compare_evaluations(
    rows: Sequence[Row], other: str | Path, table: Mapping[str, Benchmark] = BENCHMARKS, confidence: float = 0.95
) -> dict[str, Any]:
    """These rows minus those of the folder ``other``, on the samples that both answered.

    ``benchmarks``: each headline number with both values, difference, interval, p-value and its test; ``tasks``: the
    mean over the tasks of all other samples, for rank and greedy. Raises ValueError if no sample is shared, if a shared
    one has another target or was scored by another protocol, or if a benchmark has no row in ``table``.
    """
    others = read_lines(check_finished(other) / SAMPLES)
    found: dict[str, Any] = {"against": str(other), "benchmarks": {}, "tasks": {}}
    mine, theirs = rows_by_benchmark(rows), rows_by_benchmark(others)
    for name in mine:
        if name in theirs:
            pairs = _shared(mine[name], theirs[name], ("protocol", "target", "answers", "cluster"))
            found["benchmarks"][name] = _compare_benchmark(name, *pairs, table, confidence)
    first, second = ([row for row in each if not row.get("benchmark")] for each in (rows, others))
    if {row["id"] for row in first} & {row["id"] for row in second}:
        for way in WAYS:
            ours, its = ([row for row in each if row.get(f"{way}_correct") is not None] for each in (first, second))
            if all(pairs := _shared(ours, its, ("target",))):
                found["tasks"][way] = _compare_tasks(f"{way}_correct", *pairs, confidence)
    if not found["benchmarks"] and not found["tasks"]:
        raise ValueError(f"--against {other}: the two evaluations have no sample in common")
    return found


def write_against(folder: Path, comparison: Mapping[str, Any]) -> Path:
    """Write against.json into the folder of the first evaluation."""
    write_json(folder / AGAINST, comparison)
    return folder / AGAINST


def _shared(rows: Sequence[Row], others: Sequence[Row], fields: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """The rows of both that answer the same samples, in one order. ValueError where one of `fields` differs."""
    mine, theirs = {row["id"]: row for row in rows}, {row["id"]: row for row in others}
    shared = sorted(mine.keys() & theirs.keys())
    for each in shared:
        for key in fields:
            if mine[each].get(key) != theirs[each].get(key):
                was, now = theirs[each].get(key), mine[each].get(key)
                raise ValueError(f"sample {each!r}: {key}: {now!r} here, {was!r} there; the two cannot be compared")
    return [mine[each] for each in shared], [theirs[each] for each in shared]


def _compare_benchmark(
    name: str, mine: Sequence[Row], theirs: Sequence[Row], table: Mapping[str, Benchmark], confidence: float
) -> dict[str, Any]:
    if not mine:
        raise ValueError(f"{name}: the two evaluations have no sample in common")
    benchmark = row_of(name, table)
    if benchmark is None:
        raise ValueError(f"{name}: is no row of the table of benchmarks{near(name, table)}")
    rule = protocol_of(benchmark, mine[0]["protocol"])
    first, second = numbers_of(mine, rule), numbers_of(theirs, rule)
    both = [key for key in headlines_of(rule, first) if key in second]
    numbers = {key: compare_numbers(first[key], second[key], confidence).as_dict() for key in both}
    return {"protocol": mine[0]["protocol"], "n": len(mine), "numbers": numbers}


def _compare_tasks(field: str, mine: Sequence[Row], theirs: Sequence[Row], confidence: float) -> dict[str, Any]:
    compared = compare_numbers(task_mean(mine, field), task_mean(theirs, field), confidence)
    return {"tasks": len({row["task"] for row in mine}), **compared.as_dict()}
