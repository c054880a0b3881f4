"""Intervals and paired tests of numbers made of sums, against formulas, exact enumeration and simulation."""

import itertools

import numpy as np
import pytest
from scipy.special import xlogy

from mixtune.evaluate import numbers
from mixtune.evaluate.numbers import Number, compare_numbers, interval_of, mean_of, ratio
from mixtune.evaluate.statistics import macro_interval, wilson_interval


def mean(sums, counts=None, **changes):
    strata = (np.column_stack([np.asarray(sums, float), np.ones(len(sums)) if counts is None else counts]),)
    return Number(**{"strata": strata, "value": mean_of, "mean": True, **changes})


def test_a_share_of_right_answers_gets_wilsons_interval() -> None:
    found, method = interval_of(mean([1, 0, 1, 1]))
    assert (found, method) == (wilson_interval([True, False, True, True]), "Wilson")


def test_the_bootstrap_of_soft_scores_matches_the_normal_one() -> None:
    scores = np.random.default_rng(0).choice([0, 0.3, 0.6, 1.0], 400)
    found, method = interval_of(mean(scores))
    half = 1.96 * scores.std() / 20
    assert method == "bootstrap over clusters" and found.value == pytest.approx(scores.mean())
    assert (found.low, found.high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.005)


def test_clusters_widen_the_interval() -> None:
    right = np.random.default_rng(1).integers(0, 2, 100)
    alone, _ = interval_of(mean(np.repeat(right, 4)))
    together, _ = interval_of(mean(4 * right, np.full(100, 4.0)))
    assert alone.value == together.value
    assert together.high - together.low == pytest.approx(
        2 * (alone.high - alone.low), rel=0.1
    )  # root of 4 in a cluster


def test_an_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch) -> None:
    monkeypatch.setattr(numbers, "RESAMPLES", 1000)
    random, hits = np.random.default_rng(2), 0
    for trial in range(200):
        rates = random.beta(2, 2, 60)  # questions about one image stand or fall together
        sums = random.binomial(3, rates)
        found, _ = interval_of(mean(sums, np.full(60, 3.0)), seed=trial)
        hits += found.low <= 0.5 <= found.high
    assert 0.89 <= hits / 200 <= 0.985


def test_clusters_that_are_all_alike_are_no_point() -> None:
    found, method = interval_of(mean([2, 2, 2], np.full(3, 2.0)))
    same = wilson_interval([True] * 3)
    assert (found.low, found.high) == pytest.approx((same.low, same.high)) and method == "Wilson over clusters"
    half, _ = interval_of(mean([1, 1, 1, 1], np.full(4, 2.0)))
    same = wilson_interval([True, True, False, False])
    assert (half.value, half.low, half.high) == pytest.approx((0.5, same.low, same.high))


def test_strata_add_up() -> None:
    strata = (np.array([[1.0, 1], [0, 1]]), np.array([[1.0, 1], [1, 1]]))
    number = Number(strata=strata, value=lambda t: sum(ratio(each[..., 0], each[..., 1]) for each in t), unit="points")
    found, _ = interval_of(number)
    assert (number.estimate, number.questions) == (1.5, 4)
    assert (found.low, found.high) == (1.0, 2.0)  # the second stratum has no spread of its own


def test_points_that_are_all_alike_are_no_point() -> None:
    """A subtask of MME of which everything is right: 200 points, as sure as its images make it."""
    strata = (np.array([[2.0, 2]] * 3), np.array([[2.0, 2]] * 5))
    made = {"value": lambda t: sum(200 * ratio(each[..., 0], each[..., 1]) for each in t), "unit": "points"}
    one, method = interval_of(Number(strata=strata[:1], **made, most=200.0))
    same = wilson_interval([True] * 3)
    assert (one.value, one.high, method) == (200.0, 200.0, "Wilson over clusters")
    assert one.low == pytest.approx(200 * same.low)
    both, _ = interval_of(Number(strata=strata, **made, most=200.0))
    other = wilson_interval([True] * 5)
    assert both.high == 400.0 and both.low == pytest.approx(400 - 200 * np.hypot(1 - same.low, 1 - other.low))


def test_a_mean_of_tasks_counts_each_alike() -> None:
    strata = (np.array([[1.0, 1]] * 3 + [[0, 1]]), np.array([[0.0, 1]] * 2))
    other = (np.array([[0.0, 1]] * 4), np.array([[0.0, 1]] * 2))
    number, against = (Number(strata=each, value=mean_of, mean=True) for each in (strata, other))
    found, method = interval_of(number)
    assert found == macro_interval({"a": [True, True, True, False], "b": [False, False]})
    assert (found.value, method) == (0.375, "of the tasks' Wilson intervals")
    compared = compare_numbers(number, against)
    assert (compared.test, compared.p_value) == ("exact McNemar", 0.25)
    assert (compared.first, compared.second, compared.difference.value) == (0.375, 0.0, 0.375)


def test_right_or_wrong_is_compared_by_mcnemar() -> None:
    found = compare_numbers(mean([1] * 10 + [0] * 10), mean([0] * 20))
    assert (found.test, found.p_value) == ("exact McNemar", pytest.approx(2 * 0.5**10))
    assert (found.first, found.second, found.difference.value) == (0.5, 0.0, 0.5)
    assert found.difference.low > 0
    assert compare_numbers(mean([1, 0]), mean([1, 0])).p_value == 1.0


def score_test(difference: float, n: int, wins: int) -> float:
    """Tango's statistic of a difference where `wins` of n pairs are won and none lost, by the likelihood itself."""
    lost = np.linspace(0, 1, 200_001)  # the chance of a loss; that of a win is larger by the difference
    won = lost + difference
    lost, won = (each[(won >= 0) & (won + lost <= 1)] for each in (lost, won))
    best = float(lost[np.argmax(xlogy(wins, won) + xlogy(n - wins, 1 - won - lost))])
    return (wins - n * difference) / np.sqrt(n * (2 * best + difference * (1 - difference)))


@pytest.mark.parametrize("wins", [0, 12])
def test_a_difference_that_no_pair_contradicts_is_no_point(wins) -> None:
    """Tango's interval: the differences whose score test does not reject."""
    found = compare_numbers(mean([1.0] * 12), mean([0.0 if wins else 1.0] * 12)).difference
    assert found.value == wins / 12 and found.low > -1
    assert abs(score_test(found.low if wins else found.high, 12, wins)) == pytest.approx(1.96, abs=0.01)
    assert found.high == 1.0 if wins else found.low == -found.high


def test_soft_scores_are_compared_by_permutation() -> None:
    first, second = np.array([0.9, 0.6, 0.3, 1.0, 0.6, 0.9, 0.3]), np.array([0.3, 0.6, 0.0, 0.6, 0.9, 0.3, 0.0])
    found = compare_numbers(mean(first), mean(second))
    gaps = first - second
    flips = np.array(list(itertools.product([-1, 1], repeat=7))) @ gaps
    assert found.test == "paired permutation"
    assert found.p_value == pytest.approx(np.mean(np.abs(flips) >= abs(gaps.sum()) - 1e-9), abs=0.015)
    assert found.difference.value == pytest.approx(gaps.mean())


def test_a_permutation_p_value_is_level_where_nothing_differs(monkeypatch) -> None:
    monkeypatch.setattr(numbers, "RESAMPLES", 1000)
    random = np.random.default_rng(3)
    values = [compare_numbers(mean(random.random(40)), mean(random.random(40)), seed=n).p_value for n in range(100)]
    assert 0.3 <= np.mean(np.array(values) < 0.5) <= 0.7 and np.mean(np.array(values) < 0.05) <= 0.13


def test_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="same samples"):
        compare_numbers(mean([1, 0]), mean([1]))
