"""Accuracies, differences and tests over seeds and questions. Everything random is seeded.

Two things vary: which training run was drawn (its seed) and which questions were asked. Each gets its own interval, and
the one that tables show joins both. What speaks of the seeds is wide where seeds are few; that is what few seeds say.

Legend: S seeds, Q questions of one task; answers y_SQ are 1 (right) or 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from mixtune.evaluate.statistics import wilson_bounds

Answers = Mapping[str, np.ndarray]
"""y_SQ of each task; the rows of all tasks are the same seeds, the columns the task's questions in one order."""

Pictures = Mapping[str, Sequence[str]]
"""What each question of a task shows: questions that show the same, whatever their tasks, are one draw."""

CONFIDENCE, RESAMPLES, LEVEL = 0.95, 10_000, 0.05
TINY = 1e-12

METHODS = {
    "interval": "95 %; square root of the sum of squares of two half-widths, for other training seeds and for other "
    "questions of the same tasks (not for other tasks)",
    "seeds": "Student's t over the seeds' means; none with one seed",
    "questions": "an accuracy: Wilson's interval of each task on its questions (answers averaged over seeds), joined "
    "over tasks by Zou and Donner 2008 as if no questions shared a picture; a difference: percentile bootstrap over "
    "pictures, all questions about a picture and all their seeds together, stratified by the tasks that ask about it, "
    "10,000 resamples",
    "p_questions": "paired permutation test (scipy.stats.permutation_test), unit: a picture, whose answers of all "
    "tasks and seeds change sides together; it speaks of these trained models",
    "p_seeds": "the same test, unit: a seed (a pair of training runs); it speaks of the method, and cannot be below "
    "2 / 2^seeds",
    "p": "the larger of p_questions and the level at which the joint interval would touch zero (Student's t for the "
    "seeds, normal for the questions); it speaks of the method and of such questions",
    "p_holm": "p after Holm's correction over the arms of a table",
    "decided": "the interval leaves zero out and p_holm is below 0.05",
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over tasks (each counts the same) with its interval, and the two intervals that it joins."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, float] | None
    questions: tuple[float, float]
    by_seed: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """The numbers as comparison.json has them."""
        return {
            "mean": self.mean, "low": self.low, "high": self.high, "seeds": list(self.seeds) if self.seeds else None,
            "questions": list(self.questions), "by_seed": list(self.by_seed),
        }  # fmt: skip


def accuracy(answers: Answers) -> Estimate:
    """Mean accuracy over tasks and seeds. Raises ValueError without tasks."""
    if not answers:
        raise ValueError("answers: needs at least one task")
    shares = {task: float(y_SQ.mean()) for task, y_SQ in answers.items()}
    bounds = {task: wilson_bounds(shares[task], y_SQ.shape[1], CONFIDENCE) for task, y_SQ in answers.items()}
    mean = math.fsum(shares.values()) / len(shares)
    below = math.sqrt(math.fsum((shares[task] - low) ** 2 for task, (low, _) in bounds.items())) / len(shares)
    above = math.sqrt(math.fsum((high - shares[task]) ** 2 for task, (_, high) in bounds.items())) / len(shares)
    joined = _joined(mean, (below, above), _by_seed(answers))
    clipped = {"low": max(0.0, joined.low), "high": min(1.0, joined.high)}
    return Estimate(**{**vars(joined), **clipped})


def difference(first: Answers, second: Answers, pictures: Pictures | None = None, seed: int = 0) -> Estimate:
    """Mean accuracy of `first` minus that of `second` on the same questions, seed by seed.

    Without `pictures` every question is a draw of its own. Raises ValueError if their tasks or shapes differ.
    """
    gaps = _gaps(first, second)
    random = np.random.default_rng(seed)
    drawn = np.zeros(RESAMPLES)
    for parts in _by_picture(gaps, pictures).values():
        values, counts = np.unique(parts.round(12), return_counts=True)  # few different ones: seeds are few
        size = int(counts.sum())
        drawn += random.multinomial(size, counts / size, size=RESAMPLES) @ values
    by_seed = _by_seed(gaps)
    mean = float(np.mean(by_seed))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return _joined(mean, (max(0.0, mean - float(low)), max(0.0, float(high) - mean)), by_seed)


def permutation_p(
    first: Answers, second: Answers, pictures: Pictures | None = None, seed: int = 0
) -> tuple[float, float | None]:
    """(p with a picture as the unit, p with a seed as the unit or None with one seed), both two-sided."""
    gaps = _gaps(first, second)
    by_picture = np.concatenate(list(_by_picture(gaps, pictures).values()))
    by_picture = by_picture[np.abs(by_picture) > TINY]  # changing sides changes nothing there
    by_seed = np.asarray(_by_seed(gaps))
    return _sign_p(by_picture, seed), _sign_p(by_seed, seed) if len(by_seed) > 1 else None


def joint_p(found: Estimate) -> float:
    """The two-sided p that goes with the joint interval: the level α at which it would touch zero.

    |mean| = hypot(t_α a, z_α b): t of Student for the standard error a of the seeds' mean, z normal for b of the
    questions, which is their half-width on the side of zero divided by its own z.
    """
    if found.mean == 0:
        return 1.0
    count, usual = len(found.by_seed), float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    towards = found.mean - found.questions[0] if found.mean > 0 else found.questions[1] - found.mean
    seeds = float(np.std(found.by_seed, ddof=1)) / math.sqrt(count) if count > 1 else 0.0

    def beyond(level: float) -> float:
        t = float(stats.t.isf(level / 2, count - 1)) if count > 1 else 0.0
        return math.hypot(t * seeds, float(stats.norm.isf(level / 2)) * towards / usual) - abs(found.mean)

    return float(optimize.brentq(beyond, TINY, 1.0)) if beyond(TINY) > 0 else TINY


def _by_picture(gaps: Answers, pictures: Pictures | None) -> dict[frozenset[str], np.ndarray]:
    """What each picture adds to the mean gap, by the tasks that ask about it: these are the strata."""
    parts: dict[str, float] = defaultdict(float)
    tasks: dict[str, set[str]] = defaultdict(set)
    for task, gap_SQ in gaps.items():
        shown = pictures[task] if pictures else [f"{task} {number}" for number in range(gap_SQ.shape[1])]
        for name, gap in zip(shown, gap_SQ.mean(0) / (gap_SQ.shape[1] * len(gaps)), strict=True):
            parts[name] += float(gap)
            tasks[name].add(task)
    strata: dict[frozenset[str], list[float]] = defaultdict(list)
    for name, part in parts.items():
        strata[frozenset(tasks[name])].append(part)
    return {key: np.array(values) for key, values in strata.items()}


def _sign_p(gaps: np.ndarray, seed: int) -> float:
    """Paired permutation test of Σ gaps; exact where the changes of sides can all be counted."""
    if len(gaps) < 2 or not gaps.any():  # one unit can only change sides with itself
        return 1.0
    test = stats.permutation_test(
        (gaps, np.zeros_like(gaps)), lambda x, y, axis: (x - y).sum(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=RESAMPLES, batch=500, random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): adjusted p-values in the given order."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = highest
    return adjusted


def _gaps(first: Answers, second: Answers) -> dict[str, np.ndarray]:
    if not first or {task: y.shape for task, y in first.items()} != {task: y.shape for task, y in second.items()}:
        raise ValueError("a paired comparison needs the same tasks, seeds and questions on both sides")
    return {task: y_SQ.astype(float) - second[task].astype(float) for task, y_SQ in first.items()}


def _by_seed(answers: Answers) -> tuple[float, ...]:
    """The mean over tasks for every seed."""
    return tuple(np.mean([y_SQ.mean(1) for y_SQ in answers.values()], axis=0).tolist())


def _joined(mean: float, questions: tuple[float, float], by_seed: tuple[float, ...]) -> Estimate:
    """An estimate from the half-widths over questions and the seeds' means."""
    count, half = len(by_seed), 0.0
    if count > 1:
        spread = float(np.std(by_seed, ddof=1)) / math.sqrt(count)
        half = spread * float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    below, above = questions
    return Estimate(
        mean=mean, low=mean - math.hypot(below, half), high=mean + math.hypot(above, half),
        seeds=(mean - half, mean + half) if count > 1 else None, questions=(mean - below, mean + above),
        by_seed=by_seed,
    )  # fmt: skip
