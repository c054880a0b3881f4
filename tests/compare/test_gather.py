"""Answers of runs as arrays: specialists joined, halves left out, questions that changed found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compare.comparisons import comparison
from mixtune.compare.gather import Finished, Table, check_same_questions
from mixtune.compare.plan import Run
from mixtune.config import Recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    base = comparison(tmp_path_factory.mktemp("gather"))["base"]
    return Recipe.model_validate({**base, "train": {**base["train"], "output_dir": "o"}})


@pytest.fixture
def ended(recipe):
    def of(arm, seed, right, task=None, trains=True, target="yes"):
        run = Run(arm=arm, seed=seed, folder=Path(f"{arm}-{seed}"), recipe=recipe, benchmarks=("b",), steps=1,
                  task=task, trains=trains)  # fmt: skip
        targets = {name: target for answers in right.values() for name in answers}
        return Finished(run=run, results={}, right=right, targets=targets)

    return of


def test_rows_are_seeds_and_columns_the_questions_all_answered(ended):
    runs = [ended("a", 0, {"t": {"q1": True, "q2": False}}), ended("a", 1, {"t": {"q2": True, "q1": True, "q3": True}})]
    table = Table(runs, {"a": {0: 1, 1: 1}})
    assert table.arms == ["a"] and table.seeds("a") == [0, 1] and table.tasks("a") == ["t"]
    np.testing.assert_array_equal(table.answers("a", ["t"])["t"], [[1, 0], [1, 1]])


def test_specialists_are_joined_and_a_seed_counts_when_all_are_there(ended):
    runs = [ended("s", 0, {"t": {"q": True}}, "t"), ended("s", 0, {"u": {"p": False}}, "u"),
            ended("s", 1, {"t": {"q": True}}, "t")]  # fmt: skip
    table = Table(runs, {"s": {0: 2, 1: 2}})
    assert table.seeds("s") == [0] and table.tasks("s") == ["t", "u"]
    assert not Table(runs[2:], {"s": {1: 2}}).arms


def test_pairs_share_seeds_and_an_untuned_run_stands_for_all(ended):
    runs = [ended("a", seed, {"t": {"q": True, "r": False}}) for seed in (0, 1, 2)]
    runs += [ended("b", seed, {"t": {"q": False, "r": True}}) for seed in (1, 2, 3)]
    runs += [ended("base", 0, {"t": {"q": False, "r": False}}, trains=False)]
    table = Table(runs, {"a": {0: 1, 1: 1, 2: 1}, "b": {1: 1, 2: 1, 3: 1}, "base": {0: 1}})
    pair = table.paired("a", "b", ["t"])
    assert pair.seeds == [1, 2] and pair.pictures == {"t": ["t q", "t r"]}  # nothing shown: each its own
    np.testing.assert_array_equal(pair.first["t"] - pair.second["t"], [[1, -1], [1, -1]])
    pair = table.paired("base", "b", ["t"])
    assert pair.seeds == [1, 2, 3] and pair.first["t"].shape == pair.second["t"].shape == (3, 2)
    assert not pair.first["t"].any()


def test_a_pair_knows_what_its_questions_show(ended):
    runs = [ended(arm, 0, {"t": {"q": True}, "u": {"p": True, "o": False}}) for arm in ("a", "b")]
    runs = [replace(run, pictures={"q": "1.png", "p": "1.png"}) for run in runs]
    pair = Table(runs, {"a": {0: 1}, "b": {0: 1}}).paired("a", "b", ["t", "u"])
    assert pair.pictures == {"t": ["1.png"], "u": ["u o", "1.png"]}
    assert list(pair.of(["u"]).first) == list(pair.of(["u"]).pictures) == ["u"]


def test_questions_that_changed_between_runs_are_an_error(ended):
    runs = [ended("a", 0, {"t": {"q": True}}), ended("a", 1, {"t": {"q": True}}, target="no")]
    with pytest.raises(ValueError, match=r"question 'q' has the answer 'yes' in a-0 and 'no' in a-1"):
        check_same_questions(runs)
    check_same_questions(runs[:1])
