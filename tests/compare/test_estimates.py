"""Intervals and tests on answers whose truth is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mixtune.compare.estimates import Estimate, accuracy, difference, holm, joint_p, permutation_p
from mixtune.evaluate.statistics import wilson_bounds


def answers(shares, seeds=3, questions=200, seed=0):
    random = np.random.default_rng(seed)
    return {task: (random.random((seeds, questions)) < share).astype(float) for task, share in shares.items()}


def test_one_task_and_one_seed_give_wilsons_interval():
    y_SQ = np.array([[1.0] * 30 + [0.0] * 70])
    found = accuracy({"a": y_SQ})
    assert (found.low, found.high) == pytest.approx(wilson_bounds(0.3, 100), abs=1e-12)
    assert found.seeds is None and found.by_seed == (0.3,)


def test_the_seeds_interval_is_students_and_the_joint_one_is_wider_than_both():
    found = accuracy(answers({"a": 0.3, "b": 0.8}))
    half = stats.sem(found.by_seed) * stats.t.ppf(0.975, 2)
    assert found.seeds == pytest.approx((found.mean - half, found.mean + half))
    assert found.mean == pytest.approx(np.mean(found.by_seed))
    assert found.low < min(found.seeds[0], found.questions[0]) and found.high > max(found.seeds[1], found.questions[1])


def test_tasks_count_the_same_whatever_their_questions():
    y = {"a": np.ones((1, 10)), "b": np.zeros((1, 1000))}
    assert accuracy(y).mean == 0.5
    assert difference(y, {task: 1 - each for task, each in y.items()}).mean == 0.0


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Training seeds shift the accuracy of a run, questions are easy or hard: both vary from draw to draw.
    random, hits, draws = np.random.default_rng(0), 0, 200
    for _ in range(draws):
        ease_Q = random.normal(0, 1, 150)
        lift_S = random.normal(0, 0.2, (3, 1))
        y_SQ = (random.random((3, 150)) < 1 / (1 + np.exp(-(ease_Q + lift_S)))).astype(float)
        found = accuracy({"a": y_SQ})
        hits += found.low <= 0.5 <= found.high
    assert hits / draws > 0.93  # by design it is wider than it needs to be, never narrower


def test_a_difference_is_paired_by_seed_and_question():
    random = np.random.default_rng(5)
    second = answers({"a": 0.5, "b": 0.5})
    better = {task: np.maximum(y, random.random(y.shape) < 0.1) for task, y in second.items()}  # never worse
    found = difference(better, second)
    assert found.low > 0 and found.questions[1] - found.questions[0] < 0.05
    backwards = difference(second, better)
    assert backwards.mean == -found.mean and backwards.by_seed == tuple(-each for each in found.by_seed)
    with pytest.raises(ValueError, match="same tasks, seeds and questions"):
        difference(better, {"a": second["a"]})


def test_p_values_are_small_for_a_real_difference_and_one_for_none():
    first, second = answers({"a": 0.8}), answers({"a": 0.5}, seed=1)
    by_question, by_seed = permutation_p(first, second)
    assert by_question < 0.001 and by_seed == pytest.approx(2 / 2**3)
    assert permutation_p(first, first) == (1.0, 1.0)
    assert permutation_p({"a": first["a"][:1]}, {"a": second["a"][:1]})[1] is None


def test_the_test_by_question_is_exact_where_questions_are_few():
    first = {"a": np.array([[1, 1, 1, 1, 0, 1.0]])}
    second = {"a": np.array([[0, 0, 0, 0, 1, 1.0]])}
    gaps = (first["a"] - second["a"])[0]
    sums = [sum(s * g for s, g in zip(signs, gaps, strict=True)) for signs in itertools.product((1, -1), repeat=6)]
    exact = np.mean([abs(each) >= abs(sum(gaps)) for each in sums])
    assert permutation_p(first, second)[0] == pytest.approx(exact)


def test_the_test_keeps_its_level_where_nothing_differs():
    found = [permutation_p(answers({"a": 0.5}, 1, 12, s), answers({"a": 0.5}, 1, 12, s + 999))[0] for s in range(60)]
    assert np.mean(np.array(found) < 0.05) <= 0.15


def test_questions_about_one_picture_are_one_draw():
    first = answers({"a": 0.8}, seeds=1, questions=100)
    second = answers({"a": 0.6}, seeds=1, questions=100, seed=1)
    twice = [{"a": side["a"], "b": side["a"]} for side in (first, second)]  # a second task that always agrees
    shared = {task: [str(number) for number in range(100)] for task in "ab"}
    once, doubled = difference(first, second), difference(*twice, shared)
    assert doubled.questions == pytest.approx(once.questions, abs=0.01)
    assert permutation_p(*twice, shared)[0] == pytest.approx(permutation_p(first, second)[0], abs=0.01)
    alone = difference(*twice)  # as if they were 200 pictures
    assert np.diff(alone.questions) < 0.8 * np.diff(doubled.questions)


def test_tasks_that_disagree_on_every_picture_leave_nothing_to_draw():
    right = np.array([[1.0, 0.0, 1.0, 0.0]])
    pair = {"a": right, "b": 1 - right}, {"a": np.zeros((1, 4)), "b": np.zeros((1, 4))}
    found = difference(*pair, {task: list("wxyz") for task in "ab"})
    assert found.questions == pytest.approx((0.5, 0.5)) and found.mean == 0.5


def test_the_joint_p_is_where_the_joint_interval_touches_zero():
    by_seed = (0.30, 0.34, 0.38)
    half = stats.sem(by_seed) * stats.t.ppf(0.975, 2)
    for mean in (half, -half):  # without questions it is Student's test of the seeds
        found = Estimate(mean=mean, low=0, high=0, seeds=None, questions=(mean, mean), by_seed=by_seed)
        assert joint_p(found) == pytest.approx(0.05)
    alone = Estimate(mean=0.2, low=0, high=0, seeds=None, questions=(0.0, 0.5), by_seed=(0.2,))
    assert joint_p(alone) == pytest.approx(0.05)  # one seed: the questions' interval, on zero's side
    both = difference(answers({"a": 0.56}), answers({"a": 0.5}, seed=1))
    assert (joint_p(both) < 0.05) == (both.low > 0 or both.high < 0)
    assert joint_p(difference(answers({"a": 0.5}), answers({"a": 0.5}))) == 1.0
    assert joint_p(difference(answers({"a": 0.9}, 8), answers({"a": 0.1}, 8, seed=1))) < 1e-6


def test_few_arms_are_decided_where_only_seeds_differ():
    random, wrong, draws = np.random.default_rng(0), 0, 60
    for _ in range(draws):  # twelve arms that differ by their seeds alone, against one baseline
        base = (random.random((3, 400)) < 0.5 + random.normal(0, 0.08, (3, 1))).astype(float)
        p_values = []
        for _ in range(12):
            arm = (random.random((3, 400)) < 0.5 + random.normal(0, 0.08, (3, 1))).astype(float)
            p_values.append(joint_p(difference({"a": arm}, {"a": base})))
        wrong += min(holm(p_values)) < 0.05
    assert wrong / draws < 0.12


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
