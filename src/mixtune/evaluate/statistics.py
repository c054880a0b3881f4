"""Intervals and paired tests over right-or-wrong outcomes. Everything random is seeded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with the two ends of its confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The numbers as results.json has them: ``accuracy``, ``low``, ``high``."""
        return {"accuracy": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Two runs on the same ``samples``: ``first_only`` and ``second_only`` count those that one alone got right.

    ``difference`` is first minus second, macro averaged over ``tasks`` with its bootstrap interval; ``p_value`` is
    the exact McNemar test's over all samples. ``decided`` is True if the interval leaves zero out.
    """

    samples: int
    tasks: int
    first_only: int
    second_only: int
    difference: Interval
    p_value: float

    @property
    def decided(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        return self.difference.low > 0.0 or self.difference.high < 0.0


def wilson_interval(outcomes: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Share of True with Wilson's score interval (Wilson 1927). Raises ValueError without outcomes."""
    if not outcomes:
        raise ValueError("outcomes: an interval needs at least one sample")
    test = binomtest(int(sum(outcomes)), len(outcomes))
    bounds = test.proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(value=sum(outcomes) / len(outcomes), low=float(bounds.low), high=float(bounds.high))


def wilson_bounds(share: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of Wilson's interval for a share of `count` that need not be whole (say, answers averaged over runs).

    With z the normal quantile and p the share: (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n).
    """
    z = float(norm.ppf(0.5 + confidence / 2.0))
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def macro_interval(outcomes: Mapping[str, Sequence[bool]], confidence: float = 0.95) -> Interval:
    """Macro average over tasks (every task counts the same) with an interval made from the tasks' Wilson intervals.

    With task i at p_i in [l_i, u_i] and N tasks: ``low = p - sqrt(sum_i (p_i - l_i)^2) / N``, ``high = p +
    sqrt(sum_i (u_i - p_i)^2) / N`` (Zou and Donner 2008, variance estimates recovered from the limits).
    Unlike a bootstrap or a normal approximation it does not shrink to a point where every answer is right, or
    wrong. The interval speaks about other samples of these tasks, not about other tasks nor other training
    runs. Raises ValueError if there is no task or one is empty.
    """
    if not outcomes:
        raise ValueError("outcomes: needs at least one task")
    found = [wilson_interval(values, confidence) for values in outcomes.values()]
    value = sum(each.value for each in found) / len(found)
    below = math.sqrt(sum((each.value - each.low) ** 2 for each in found)) / len(found)
    above = math.sqrt(sum((each.high - each.value) ** 2 for each in found)) / len(found)
    return Interval(value=value, low=max(0.0, value - below), high=min(1.0, value + above))


def compare_paired(
    first: Mapping[str, Sequence[bool]],
    second: Mapping[str, Sequence[bool]],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two runs whose outcomes per task stand in the same sample order.

    Exact McNemar test: of the samples that only one run got right, the first's share is tested against one
    half (two-sided binomial). The interval of the macro-averaged difference is a percentile bootstrap over
    pairs, stratified by task. Raises ValueError if the tasks or their sizes differ.
    """
    if {task: len(values) for task, values in first.items()} != {task: len(values) for task, values in second.items()}:
        raise ValueError("a paired comparison needs the same samples in both runs")
    if not first or any(len(values) == 0 for values in first.values()):
        raise ValueError("outcomes: needs at least one task and one sample in each")
    random = np.random.default_rng(seed)
    drawn, means, wins, losses = np.zeros(resamples), [], 0, 0
    for task, values in first.items():
        a, b = np.asarray(values, dtype=bool), np.asarray(second[task], dtype=bool)
        win, loss, size = int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)
        counts = random.multinomial(size, [win / size, loss / size, 1 - (win + loss) / size], size=resamples)
        drawn += (counts[:, 0] - counts[:, 1]) / size
        means.append((win - loss) / size)
        wins, losses = wins + win, losses + loss
    return PairedComparison(
        samples=sum(len(values) for values in first.values()),
        tasks=len(first),
        first_only=wins,
        second_only=losses,
        difference=_percentile(float(np.mean(means)), drawn / len(first), confidence),
        p_value=float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
    )


def _percentile(value: float, drawn: np.ndarray, confidence: float) -> Interval:
    """Interval between the two percentiles of the resampled statistic that leave out (1 - confidence) / 2 each."""
    edge = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, [edge, 1.0 - edge])
    return Interval(value=value, low=float(low), high=float(high))
