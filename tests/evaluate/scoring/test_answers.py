"""Scores of free answers, worked by hand from the official rules."""

import pytest

from mixtune.evaluate.scoring import answers


@pytest.mark.parametrize(("same", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_soft_accuracy_leaves_one_person_out(same: int, score: float) -> None:
    people = ["stop"] * same + ["go"] * (10 - same)
    assert answers.soft_accuracy("Stop.", people) == pytest.approx(score)


def test_soft_accuracy_of_vlmevalkit_keeps_a_period_after_a_digit() -> None:
    assert answers.score_soft("3.", ["3"] * 10, ()).score == 1.0
    assert answers.score_soft_vlmevalkit("3.", ["3"] * 10, ()).score == 0.0


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ("105", "100", True),
        ("95", "100", True),
        ("105.1", "100", False),
        ("-105", "-100", True),
        ("5%", "0.05", True),
        ("5%", "5", False),  # a percentage is a hundredth
        ("0", "0", True),
        ("0.0", "0", False),  # no five per cent of nothing: the texts decide
        ("1,000", "1000", False),  # a comma makes it text
        ("RED", "red", True),
        ("2 cats", "2", False),
    ],
)
def test_relaxed_accuracy(answer: str, target: str, right: bool) -> None:
    assert answers.relaxed_accuracy(answer, target) is right


def test_lmms_eval_does_not_strip_chart_answers() -> None:
    assert answers.score_relaxed(" red", ["Red"], ()).score == 1.0
    assert answers.score_relaxed_unstripped(" red", ["Red"], ()).score == 0.0


@pytest.mark.parametrize(
    ("first", "second", "distance"), [("kitten", "sitting", 3), ("", "ab", 2), ("same", "same", 0), ("ab", "ba", 2)]
)
def test_edit_distance(first: str, second: str, distance: int) -> None:
    assert answers.edit_distance(first, second) == answers.edit_distance(second, first) == distance


@pytest.mark.parametrize(
    ("answer", "targets", "score"),
    [
        ("Coca Cola", ["coca  cola", "Pepsi"], 1.0),
        ("hallo", ["hello"], 0.8),
        ("ab", ["ax"], 0.5),  # the script keeps a similarity of exactly one half, the paper does not
        ("abc", ["axx"], 0.0),
        ("a  b", ["ac"], 0.5),  # two edits of "a b", over the four characters of the raw answer
        ("", [""], 1.0),
        ("x", [""], 0.0),
    ],
)
def test_anls(answer: str, targets: list[str], score: float) -> None:
    assert answers.anls(answer, targets) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "targets", "right"),
    [
        ("It is a cat.", ["cat"], True),
        ("It is a category", ["cat"], False),
        ("there are two", ["2"], True),
        ("Red and blue", ["green", "blue"], True),
        ("no", ["yes"], False),
    ],
)
def test_containment_is_of_whole_words_in_normal_form(answer: str, targets: list[str], right: bool) -> None:
    assert answers.contains_target(answer, targets) is right


def test_token_overlap_counts_a_shared_word_as_often_as_the_answer_says_it() -> None:
    # "the" is an article: answer {red: 2, cell: 1, wall: 1}, target {red: 1, cell: 1, nucleus: 1}
    f1, precision, recall = answers.token_overlap("The red red cell wall", "red cell nucleus")
    assert (precision, recall) == (pytest.approx(3 / 4), pytest.approx(3 / 4))  # TP 3, FP 1, FN 1
    assert f1 == pytest.approx(3 / 4)
    assert answers.token_overlap("", "red") == answers.token_overlap("blue", "red") == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("A Maple_Tree!", "maple tree"),
        ("tree", None),
        ("a cat or a dog", None),
        ("category", None),
        ("the dining table", "dining table"),  # not also the table inside it
        ("cat cat", "cat"),
    ],
)
def test_one_label(answer: str, label: str | None) -> None:
    assert answers.one_label(answer, ("cat", "dog", "table", "dining table", "maple tree")) == label


def test_labels_know_whether_they_were_said_alone() -> None:
    options = ("pickup truck", "train")
    assert answers.score_label("Pickup_truck.", ["pickup truck"], options).details == {"exact": 1.0}
    found = answers.score_label("this is a train", ["train"], options)
    assert (found.score, found.read_as, found.details) == (1.0, "train", {"exact": 0.0})
    assert answers.score_label("a bird", ["train"], options).read_as == "other"


@pytest.mark.parametrize(
    ("answer", "score"), [("7", 1.0), ("The digit is Seven.", 1.0), ("17", 0.0), ("7.5", 0.0), ("7 or 1", 0.0)]
)
def test_digits(answer: str, score: float) -> None:
    assert answers.score_digit(answer, ["7"], tuple("0123456789")).score == score


def test_pathvqa_takes_recall_of_open_and_accuracy_of_closed_questions() -> None:
    found = answers.score_pathvqa("the liver cell is large", ["liver cell"], ())
    assert (found.score, found.graded, found.details["precision"]) == (1.0, True, pytest.approx(0.5))
    closed = answers.score_pathvqa("No.", ["no"], ())
    assert (closed.score, closed.graded) == (1.0, False)
