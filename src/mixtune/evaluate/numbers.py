"""Numbers of a benchmark as sums over clusters, so that one resampling serves means, F1 and MME's pairs alike.

A cluster (an image with its questions) adds a row of K counts; a number is a function of the summed counts of one or
more strata (MME: its subtasks). Legend: C clusters, K counts, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm

from mixtune.evaluate.statistics import Interval, macro_interval, wilson_bounds

RESAMPLES = 10_000
CELLS_AT_ONCE = 4_000_000  # of a drawn matrix; bounds memory at 32 MB


@dataclass(frozen=True, kw_only=True)
class Number:
    """``value(totals)`` of ``strata``: arrays [C, K] in, one total [..., K] a stratum; all clusters in a fixed order.

    The second count of every row is its number of questions. ``unit`` is "share" (0 to 1) or "points", of which each
    stratum adds up to ``most``. ``mean`` says that it is `mean_of`: strata of (sum, count).
    """

    strata: tuple[np.ndarray, ...]
    value: Callable[[Sequence[np.ndarray]], Any]
    unit: str = "share"
    mean: bool = False
    most: float = 1.0

    @property
    def estimate(self) -> float:
        """The number itself."""
        return float(self.value([stratum.sum(axis=0) for stratum in self.strata]))

    @property
    def questions(self) -> int:
        """How many questions the number is of."""
        return int(sum(stratum[:, 1].sum() for stratum in self.strata))

    @property
    def right_or_wrong(self) -> bool:
        """Whether it is the share of right ones among single questions, each 0 or 1, or a mean of such shares."""
        if not self.mean:
            return False
        sums_C, counts_C = np.concatenate(self.strata).T
        return bool(np.all(counts_C == 1) and np.all((sums_C == 0) | (sums_C == 1)))

    @property
    def shares(self) -> list[float]:
        """What each stratum reached of the most that it can."""
        return [float(self.value([stratum.sum(axis=0)])) / self.most for stratum in self.strata]

    @property
    def scale(self) -> float:
        """What a stratum's whole share adds to the number: strata add up to points, and a share is their mean."""
        return self.most / (len(self.strata) if self.unit == "share" else 1)

    @property
    def outcomes(self) -> dict[str, list[bool]]:
        """Right or wrong, by stratum, where it is `right_or_wrong`."""
        return {str(place): [bool(right) for right in stratum[:, 0]] for place, stratum in enumerate(self.strata)}


@dataclass(frozen=True, kw_only=True)
class PairedNumber:
    """One number of two runs on the same ``n`` questions, first minus second, the p-value and its ``test``."""

    n: int
    first: float
    second: float
    difference: Interval
    p_value: float
    test: str
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        interval = {"value": self.difference.value, "low": self.difference.low, "high": self.difference.high}
        kept = {"n": self.n, "first": self.first, "second": self.second, "difference": interval}
        return {**kept, "p_value": self.p_value, "test": self.test, "unit": self.unit}


def ratio(top: Any, bottom: Any) -> np.ndarray:
    """The quotient, 0 where bottom is 0."""
    top, bottom = np.asarray(top, dtype=float), np.asarray(bottom, dtype=float)
    return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom != 0)


def mean_of(totals: Sequence[np.ndarray]) -> np.ndarray:
    """Sum over count, mean over the strata (of one, if there is one)."""
    return np.mean([ratio(t[..., 0], t[..., 1]) for t in totals], axis=0)


def interval_of(number: Number, confidence: float = 0.95, seed: int = 0) -> tuple[Interval, str]:
    """The number with its interval, and the name of the method.

    Wilson's for a share of right answers, made of the strata's where it is a mean of such shares (`macro_interval`).
    Otherwise a percentile bootstrap of 10,000 resamples, which draws whole clusters with replacement, within each
    stratum. Where all clusters are alike, and so all resamples, it would be a point: Wilson's with one observation a
    cluster is given instead (of what can be reached, for points), made of the strata's as above.
    """
    if number.right_or_wrong:
        method = "Wilson" if len(number.strata) == 1 else "of the tasks' Wilson intervals"
        return macro_interval(number.outcomes, confidence), method
    random = np.random.default_rng(seed)
    drawn_R = number.value([_resampled_totals(stratum, random) for stratum in number.strata])
    found = _percentile(number.estimate, drawn_R, confidence)
    if found.high - found.low < 1e-9:
        return _wilson_over_clusters(number, confidence), "Wilson over clusters"
    return found, "bootstrap over clusters"


def _wilson_over_clusters(number: Number, confidence: float) -> Interval:
    shares = number.shares
    ends = [wilson_bounds(p, len(stratum), confidence) for p, stratum in zip(shares, number.strata, strict=True)]
    below = number.scale * math.hypot(*(p - low for p, (low, _) in zip(shares, ends, strict=True)))
    above = number.scale * math.hypot(*(high - p for p, (_, high) in zip(shares, ends, strict=True)))
    value, top = number.estimate, number.scale * len(shares)
    return Interval(value=value, low=max(0.0, value - below), high=min(top, value + above))


def _difference(first: Number, second: Number, drawn_R: np.ndarray, confidence: float) -> Interval:
    """The difference with its interval: percentiles, or, where all pairs of clusters differ alike, ± z²(1 + |d|) / (n +
    z²) of what can be reached, made of the strata's: Tango's score interval (1998) where no pair differs, or every one.
    """
    found = _percentile(first.estimate - second.estimate, drawn_R, confidence)
    if found.high - found.low >= 1e-9:
        return found
    z2 = float(norm.ppf(0.5 + confidence / 2.0)) ** 2
    gaps = [abs(a - b) for a, b in zip(first.shares, second.shares, strict=True)]
    halves = (z2 * (1 + d) / (len(stratum) + z2) for d, stratum in zip(gaps, first.strata, strict=True))
    half, top = first.scale * math.hypot(*halves), first.scale * len(gaps)
    return Interval(value=found.value, low=max(-top, found.value - half), high=min(top, found.value + half))


def compare_numbers(first: Number, second: Number, confidence: float = 0.95, seed: int = 0) -> PairedNumber:
    """Two runs whose clusters stand in the same order.

    Share of right answers: exact McNemar test (two-sided binomial over the questions that one run alone got right).
    Otherwise a permutation test: 10,000 times each cluster's answers are exchanged between the runs or not, by a coin;
    p = (1 + times the difference is at least as large) / (1 + 10,000). The interval is a bootstrap over pairs of
    clusters, or Tango's where that would be a point. Raises ValueError if the runs have not the same clusters.
    """
    if [stratum.shape for stratum in first.strata] != [stratum.shape for stratum in second.strata]:
        raise ValueError("a paired comparison needs the same samples in both runs")
    random, width = np.random.default_rng(seed), [stratum.shape[1] for stratum in first.strata]
    both = [np.concatenate(pair, axis=1) for pair in zip(first.strata, second.strata, strict=True)]
    totals = [_resampled_totals(stratum, random) for stratum in both]
    drawn_R = first.value([t[:, :k] for t, k in zip(totals, width, strict=True)])
    drawn_R = drawn_R - second.value([t[:, k:] for t, k in zip(totals, width, strict=True)])
    gap = first.estimate - second.estimate
    if first.right_or_wrong and second.right_or_wrong:
        p_value, test = _mcnemar(*(np.concatenate(each.strata)[:, 0] for each in (first, second))), "exact McNemar"
    else:
        p_value, test = _permutation(first, second, gap, random), "paired permutation"
    return PairedNumber(
        n=first.questions,
        first=first.estimate,
        second=second.estimate,
        difference=_difference(first, second, drawn_R, confidence),
        p_value=p_value,
        test=test,
        unit=first.unit,
    )


def _resampled_totals(stratum_CK: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Totals [R, K] of as many clusters as there are, drawn with replacement.

    Equal clusters are drawn together: how often each kind of row comes is multinomial.
    """
    kinds_NK, times_N = np.unique(stratum_CK, axis=0, return_counts=True)
    clusters = len(stratum_CK)
    at_once = max(1, CELLS_AT_ONCE // len(kinds_NK))
    parts = []
    for start in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - start)
        parts.append(random.multinomial(clusters, times_N / clusters, size=size) @ kinds_NK)
    return np.concatenate(parts)


def _mcnemar(first_C: np.ndarray, second_C: np.ndarray) -> float:
    wins, losses = int(np.sum(first_C > second_C)), int(np.sum(second_C > first_C))
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _permutation(first: Number, second: Number, gap: float, random: np.random.Generator) -> float:
    totals_a, totals_b = [], []
    for a_CK, b_CK in zip(first.strata, second.strata, strict=True):
        change_DK = (b_CK - a_CK)[np.any(a_CK != b_CK, axis=1)]
        moved_RK = np.zeros((RESAMPLES, a_CK.shape[1]))
        at_once = max(1, CELLS_AT_ONCE // max(1, len(change_DK)))
        for start in range(0, RESAMPLES, at_once):
            size = min(at_once, RESAMPLES - start)
            moved_RK[start : start + size] = random.integers(0, 2, (size, len(change_DK))) @ change_DK
        totals_a.append(a_CK.sum(axis=0) + moved_RK)
        totals_b.append(b_CK.sum(axis=0) - moved_RK)
    gaps_R = first.value(totals_a) - second.value(totals_b)
    return float((1 + np.sum(np.abs(gaps_R) >= abs(gap) - 1e-9)) / (1 + RESAMPLES))


def _percentile(value: float, drawn_R: np.ndarray, confidence: float) -> Interval:
    edge = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn_R, [edge, 1.0 - edge])
    return Interval(value=value, low=float(low), high=float(high))
