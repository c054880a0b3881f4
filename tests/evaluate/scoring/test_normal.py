"""Normal forms of short answers, worked by hand from the official rules."""

import pytest

from mixtune.evaluate.scoring.normal import (
    CONTRACTIONS,
    evalai_answer,
    llava_med_answer,
    vlmevalkit_answer,
    vqa_answer,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Two dogs", "2 dogs"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("wont", "won't"),
        ("couldntve couldnt've", "couldntve couldn't've"),  # one apostrophe may be missing, not both
        ("let's", "let 's"),
        ("coca-cola", "coca cola"),  # a mark between letters becomes a space
        ("coca- cola", "coca cola"),  # beside a space it goes
        ("a/b- c", "b c"),
        ("1,000", "1000"),
        ("3.", "3"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("st. mary", "st mary"),
        ("what?\n", "what"),
        ("", ""),
        ("a", ""),
    ],
)
def test_evalai_form(text: str, normal: str) -> None:
    assert evalai_answer(text) == normal


def test_the_copies_differ_where_they_are_said_to() -> None:
    assert (evalai_answer("bob's"), vqa_answer("bob's")) == ("bob 's", "bob's")
    assert (vqa_answer("3."), vlmevalkit_answer("3."), vlmevalkit_answer("red.")) == ("3", "3.", "red")
    # A comma inside a number makes every mark go instead of becoming a space; EvalAI has taken commas out before.
    assert (evalai_answer("1,000-x"), vqa_answer("1,000-x")) == ("1000 x", "1000x")
    assert llava_med_answer("Cell, Nucleus") == "cell nucleus"


def test_at_most_32_periods_go() -> None:
    assert evalai_answer("a." * 33 + "b") == "a" * 33 + ".b"


def test_contractions_hold_each_spelling_that_lacks_one_apostrophe() -> None:
    assert CONTRACTIONS["y'allll"] == CONTRACTIONS["yall'll"] == "y'all'll"
    assert CONTRACTIONS["ow's'at"] == CONTRACTIONS["'ow'sat"] == "'ow's'at"
    assert CONTRACTIONS["somebody'd"] == "somebodyd" and "hell" not in CONTRACTIONS
    assert len(CONTRACTIONS) == 114
