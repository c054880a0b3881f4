"""The sentence a reader takes home must say what the numbers say."""

import pytest

from fake_runs import USUAL, fake_run
from mixtune.analyse.report.headline import answer_sentences, compare_splits, floor_sentence
from mixtune.analyse.report.words import percent, points
from mixtune.analyse.runs import find_runs, read_runs


def runs_of(folder, accuracies, subject="mixlora", baseline="lora"):
    return read_runs(find_runs(fake_run(folder, accuracies)), subject, baseline)


def test_ahead_behind_and_undecided_are_said(tmp_path) -> None:
    ahead = runs_of(tmp_path / "ahead", USUAL)
    found = compare_splits(ahead[0], ahead[1], "rank")
    assert [(each.split, each.verdict) for each in found] == [("seen", "better"), ("unseen", "undecided")]
    seen, unseen = answer_sentences(ahead, found, "rank")
    assert seen.startswith("On the 2 seen tasks, mixlora answers 90.0 % right and lora 55.0 % (+35.0 points, 95 %")
    assert "40 questions" in seen
    assert seen.endswith("mixlora is ahead by more than the noise of these questions.")
    assert unseen.endswith("a difference within the noise of these questions.")
    behind = runs_of(tmp_path / "behind", USUAL, subject="lora", baseline="mixlora")
    assert answer_sentences(behind, compare_splits(behind[0], behind[1], "rank"), "rank")[0].endswith(
        "lora is behind by more than the noise of these questions."
    )


def test_one_model_is_described_without_a_comparison(tmp_path) -> None:
    runs = runs_of(tmp_path, {"lora": USUAL["lora"]}, "lora", "lora")
    seen, _ = answer_sentences(runs, [], "rank")
    assert seen.startswith("On the 2 seen tasks, lora answers 55.0 % right (95 % interval ")


def test_floor_names_guessing_and_the_untuned_model(tmp_path) -> None:
    runs = runs_of(tmp_path, USUAL)
    expected = "Guessing among the options would reach 50.0 %, untuned reaches 45.0 %."
    assert floor_sentence(runs, "seen", "rank") == expected


@pytest.mark.parametrize(("value", "text"), [(0.031, "+3.1"), (-0.004, "−0.4"), (0.0001, "0.0"), (-0.0001, "0.0")])
def test_points(value: float, text: str) -> None:
    assert points(value) == text
    assert percent(None) == "–"
