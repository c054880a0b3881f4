"""Intervals and tests against formulas written out, known values and simulation."""

import math

import numpy as np
import pytest

from mixtune.evaluate.statistics import compare_paired, macro_interval, wilson_bounds, wilson_interval


def test_wilson_matches_its_formula() -> None:
    found, z, n, p = wilson_interval([True] * 15 + [False] * 5), 1.959963984540054, 20, 0.75
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert found.value == p
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-12)
    with pytest.raises(ValueError, match="outcomes"):
        wilson_interval([])


def test_bounds_of_a_whole_share_are_wilsons() -> None:
    for right, count in ((0, 9), (4, 9), (9, 9), (130, 300)):
        known = wilson_interval([True] * right + [False] * (count - right))
        assert wilson_bounds(right / count, count) == pytest.approx((known.low, known.high), abs=1e-12)


def test_macro_weighs_tasks_alike_and_equals_wilson_for_one_task() -> None:
    one = {"a": [True] * 3 + [False]}
    assert macro_interval(one) == wilson_interval(one["a"])
    two = {"a": [True] * 10, "b": [False] * 90}
    found, a, b = macro_interval(two), wilson_interval(two["a"]), wilson_interval(two["b"])
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - (1 - a.low) / 2)
    assert found.high == pytest.approx(0.5 + b.high / 2)
    with pytest.raises(ValueError, match="at least one task"):
        macro_interval({})


def test_macro_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random, truth, hits = np.random.default_rng(0), (0.95, 0.5, 0.2), 0
    for _ in range(300):
        found = macro_interval({str(p): list(random.random(30) < p) for p in truth})
        hits += found.low <= np.mean(truth) <= found.high
    assert 0.90 <= hits / 300 <= 0.99


def test_paired_comparison_counts_disagreements_only() -> None:
    first = {"a": [True, True, True, False], "b": [True, False]}
    second = {"a": [True, False, False, False], "b": [True, True]}
    found = compare_paired(first, second)
    assert (found.samples, found.tasks, found.first_only, found.second_only) == (6, 2, 2, 1)
    assert found.difference.value == pytest.approx((0.5 - 0.5) / 2)
    assert found.p_value == pytest.approx(1.0)  # two against one: no evidence
    assert not found.decided


def test_exact_mcnemar_of_ten_to_none() -> None:
    found = compare_paired({"a": [True] * 10 + [False] * 10}, {"a": [False] * 20})
    assert found.p_value == pytest.approx(2 * 0.5**10)
    assert found.decided
    assert found.difference.value == 0.5


def test_equal_runs_are_undecided_and_the_interval_is_seeded() -> None:
    same = {"a": [True, False] * 5}
    found = compare_paired(same, same)
    assert (found.difference.value, found.p_value, found.decided) == (0.0, 1.0, False)
    random = np.random.default_rng(0)
    first, second = ({"a": list(random.random(60) < 0.6)} for _ in range(2))
    assert compare_paired(first, second, seed=3) == compare_paired(first, second, seed=3)


def test_bootstrap_interval_is_that_of_resampled_pairs() -> None:
    random = np.random.default_rng(1)
    first, second = random.random(80) < 0.7, random.random(80) < 0.5
    found = compare_paired({"a": list(first)}, {"a": list(second)})
    drawn = random.integers(0, 80, (4000, 80))
    low, high = np.quantile((first.astype(float) - second)[drawn].mean(axis=1), [0.025, 0.975])
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), abs=0.02)


def test_runs_over_different_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="same samples"):
        compare_paired({"a": [True]}, {"a": [True, False]})
