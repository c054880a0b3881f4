"""The report's answer in words: which model is right more often, by how much, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixtune.analyse.report.words import percent, points
from mixtune.analyse.runs import Run
from mixtune.evaluate.statistics import PairedComparison
from mixtune.evaluate.summary import compare_rows


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Subject against baseline on the tasks of one split."""

    split: str
    subject: str
    baseline: str
    paired: PairedComparison

    @property
    def verdict(self) -> str:
        """One of "better", "worse", or "undecided" where the interval of the difference holds zero."""
        if not self.paired.decided:
            return "undecided"
        return "better" if self.paired.difference.value > 0 else "worse"

    def as_dict(self) -> dict[str, Any]:
        """All numbers of the comparison for report.json."""
        difference = self.paired.difference
        return {
            "split": self.split, "subject": self.subject, "baseline": self.baseline, "verdict": self.verdict,
            "difference": difference.value, "low": difference.low, "high": difference.high,
            "mcnemar_p": self.paired.p_value, "samples": self.paired.samples, "tasks": self.paired.tasks,
            "subject_only": self.paired.first_only, "baseline_only": self.paired.second_only,
        }  # fmt: skip


def compare_splits(subject: Run, baseline: Run, way: str) -> list[Comparison]:
    """Paired comparisons on each split that the two models share, seen tasks first."""
    found = []
    for split in sorted({row["split"] for row in subject.rows} & {row["split"] for row in baseline.rows}):
        mine, other = ([row for row in run.rows if row["split"] == split] for run in (subject, baseline))
        if any(row.get(f"{way}_correct") is not None for row in mine):
            paired = compare_rows(mine, other, way)
            found.append(Comparison(split=split, subject=subject.label, baseline=baseline.label, paired=paired))
    return found


def sentence(comparison: Comparison, subject: Run, baseline: Run, way: str) -> str:
    """One split's answer in one plain sentence, with both accuracies, the difference, its interval and the verdict."""
    mine, other = (run.results["summary"][comparison.split][way]["accuracy"] for run in (subject, baseline))
    paired, name = comparison.paired, comparison.subject
    where = f"On the {paired.tasks} {comparison.split} task{'s' if paired.tasks != 1 else ''}"
    difference = paired.difference
    interval = f"95 % interval {points(difference.low)} to {points(difference.high)}"
    gap = f"{points(difference.value)} points, {interval}, {paired.samples:,} questions"
    facts = f"{name} answers {percent(mine)} right and {comparison.baseline} {percent(other)} ({gap})"
    ends = {
        "better": f"{name} is ahead by more than the noise of these questions",
        "worse": f"{name} is behind by more than the noise of these questions",
        "undecided": "a difference within the noise of these questions",
    }
    return f"{where}, {facts}: {ends[comparison.verdict]}."


def floor_sentence(runs: Sequence[Run], split: str, way: str) -> str:
    """What blind guessing and the models that were not tuned reach on a split, for scale; "" if neither is known."""
    summary = runs[0].results["summary"][split]
    parts = (
        [f"guessing among the options would reach {percent(summary['chance'])}"]
        if summary["chance"] is not None
        else []
    )
    for run in runs:
        entry = run.results["summary"].get(split, {}).get(way)
        if not run.log and entry:
            parts.append(f"{run.label} reaches {percent(entry['accuracy'])}")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def answer_sentences(runs: Sequence[Run], comparisons: Sequence[Comparison], way: str) -> list[str]:
    """The answer: a sentence a split, seen tasks first; for a single model its accuracy instead of a comparison."""
    if comparisons:
        ordered = sorted(comparisons, key=lambda comparison: comparison.split != "seen")
        return [sentence(comparison, runs[0], runs[1], way) for comparison in ordered]
    found = []
    for split, entry in runs[0].results["summary"].items():
        accuracy = entry[way]
        if accuracy:
            interval = f"95 % interval {percent(accuracy['low'])} to {percent(accuracy['high'])}"
            tasks = f"{entry['tasks']} {split} task{'s' if entry['tasks'] != 1 else ''}"
            found.append(f"On the {tasks}, {runs[0].label} answers {percent(accuracy['accuracy'])} right ({interval}).")
    return found
