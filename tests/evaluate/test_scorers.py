"""Scorers: the rules worked by hand."""

import math

import pytest

from mixtune.evaluate.scorers import best_option, chance_level, exact_match, normalise_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Red.", "red"),
        ("  two\n words ", "two words"),
        ('"Straße!"', "strasse"),
        ("ﬁsh", "fish"),
        ("-3", "-3"),
        ("1/2", "1/2"),
        ("(b)", "b"),
        ("?", "?"),
        ("", ""),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal


def test_exact_match_wants_the_whole_answer() -> None:
    assert exact_match("Red.", "red")
    assert not exact_match("a red one", "red")
    assert not exact_match("10", "1")
    assert not exact_match("", "red")


def test_best_option_takes_the_first_of_equals_and_refuses_nonsense() -> None:
    assert best_option([-2.0, -1.0, -1.0]) == 1
    with pytest.raises(ValueError, match="at least one option"):
        best_option([])
    with pytest.raises(ValueError, match="not a number"):
        best_option([0.0, math.nan])


def test_chance_is_the_mean_of_one_over_the_number_of_options() -> None:
    assert chance_level([2, 4]) == pytest.approx(0.375)
    assert chance_level([2, 0]) is None
    assert chance_level([]) is None
