"""Two finished evaluations on the same samples: paired differences, written and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixtune.evaluate.benchmarks.results import headlines_of, numbers_of, rows_by_benchmark
from mixtune.evaluate.numbers import compare_numbers
from mixtune.evaluate.statistics import PairedComparison
from mixtune.evaluate.store import AGAINST, RESULTS, SAMPLES, read_lines, write_json
from mixtune.evaluate.summary import WAYS, compare_rows


def check_finished(folder: str | Path) -> Path:
    """The folder, if a finished evaluation lies in it. Raises ValueError naming the file that is missing."""
    folder = Path(folder)
    for name in (RESULTS, SAMPLES):
        if not (folder / name).is_file():
            raise ValueError(f"--against {folder}: holds no finished evaluation ({name} is missing)")
    return folder


def compare_evaluations(
    rows: Sequence[Mapping[str, Any]], other: str | Path, confidence: float = 0.95
) -> dict[str, Any]:
    """These rows minus those of the folder ``other``, on the samples that both answered.

    ``benchmarks``: each headline number with difference, interval, p-value and its test; ``tasks``: rank and greedy
    over all other samples (`compare_rows`). Raises ValueError if no sample is shared, or if a shared one has another
    target or was scored by another protocol.
    """
    others = read_lines(check_finished(other) / SAMPLES)
    found: dict[str, Any] = {"against": str(other), "benchmarks": {}, "tasks": {}}
    mine, theirs = rows_by_benchmark(rows), rows_by_benchmark(others)
    for name in mine:
        if name in theirs:
            found["benchmarks"][name] = _compare_benchmark(name, mine[name], theirs[name], confidence)
    first, second = ([row for row in each if not row.get("benchmark")] for each in (rows, others))
    if first and {row["id"] for row in first} & {row["id"] for row in second}:
        for way in WAYS:
            if any(row.get(f"{way}_correct") is not None for row in first):
                found["tasks"][way] = _paired_dict(compare_rows(first, second, way, confidence=confidence))
    if not found["benchmarks"] and not found["tasks"]:
        raise ValueError(f"--against {other}: the two evaluations have no sample in common")
    return found


def write_against(folder: Path, comparison: Mapping[str, Any]) -> Path:
    """Write against.json into the folder of the first evaluation."""
    write_json(folder / AGAINST, comparison)
    return folder / AGAINST


def _compare_benchmark(
    name: str, rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], confidence: float
) -> dict[str, Any]:
    mine, theirs = {row["id"]: row for row in rows}, {row["id"]: row for row in others}
    shared = sorted(mine.keys() & theirs.keys())
    if not shared:
        raise ValueError(f"{name}: the two evaluations have no sample in common")
    for each in shared:
        for field in ("protocol", "target", "answers", "cluster"):
            if mine[each].get(field) != theirs[each].get(field):
                was, now = theirs[each].get(field), mine[each].get(field)
                raise ValueError(f"sample {each!r}: {field}: {now!r} here, {was!r} there; the two cannot be compared")
    first, second = numbers_of([mine[each] for each in shared]), numbers_of([theirs[each] for each in shared])
    both = [key for key in headlines_of(name, rows[0]["protocol"], first) if key in second]
    numbers = {key: compare_numbers(first[key], second[key], confidence).as_dict() for key in both}
    return {"protocol": rows[0]["protocol"], "n": len(shared), "numbers": numbers}


def _paired_dict(paired: PairedComparison) -> dict[str, Any]:
    gap = paired.difference
    return {
        "n": paired.samples,
        "tasks": paired.tasks,
        "first_only": paired.first_only,
        "second_only": paired.second_only,
        "difference": {"value": gap.value, "low": gap.low, "high": gap.high},
        "p_value": paired.p_value,
        "test": "exact McNemar",
        "unit": "share",
    }
