"""Answers read as yes or no, worked by hand from each rule, traps first."""

import pytest

from mixtune.evaluate.scoring import yesno

# The same answers under the four rules: MME's official one, lmms-eval's for MME, POPE's official one, VLMEvalKit's.
READ = {
    "yes": ("yes", "yes", "yes", "yes"),
    "Yes.": ("yes", "yes", "yes", "yes"),
    "No, there is not.": ("no", "no", "no", "no"),
    "Yes, there is no doubt": ("yes", "yes", "no", "other"),
    "The answer is yes": ("other", "other", "yes", "yes"),
    " yes": ("yes", "yes", "yes", "yes"),
    "   yes": ("other", "yes", "yes", "yes"),
    "N": ("other", "no", "yes", "other"),
    "Not at all": ("no", "no", "yes", "other"),  # POPE knows the word "not", not "Not"
    "It is not": ("other", "other", "no", "other"),
    "NO": ("no", "no", "yes", "no"),
    "I see. No dog is there": ("other", "other", "yes", "no"),  # POPE reads the first sentence only
    ".. no": ("other", "no", "yes", "no"),  # "n" is the fourth character
    "No\nthere": ("no", "no", "yes", "no"),  # POPE parts words by spaces, not by line breaks
    "noyes": ("no", "no", "yes", "other"),  # the first four are "noye"
    "y/es": ("other", "other", "yes", "other"),
    "": ("other", "other", "yes", "other"),
}


@pytest.mark.parametrize("answer", READ)
def test_each_rule_reads_as_its_source_does(answer: str) -> None:
    found = (
        yesno.mme_answer(answer),
        yesno.mme_answer_lmms_eval(answer),
        yesno.pope_answer(answer),
        yesno.yes_no_word(answer),
    )
    assert found == READ[answer]


def test_lmms_eval_wants_popes_whole_answer() -> None:
    assert [yesno.pope_answer_lmms_eval(text) for text in ("Yes ", "Yes.", "No")] == ["yes", "other", "no"]


@pytest.mark.parametrize(
    ("answer", "label"),
    [("True.", "true"), ("It is false, not true", "false"), ("No", "false"), ("untrue", "other"), ("", "other")],
)
def test_true_or_false_is_the_first_such_word(answer: str, label: str) -> None:
    assert yesno.true_false(answer) == label


def test_closed_questions_count_letters_inside_words() -> None:
    assert yesno.closed_answer("Yes, it does", "yes")
    assert yesno.closed_answer("I do not know", "no")
    assert not yesno.closed_answer("maybe", "no")
    assert yesno.closed_answer("no and yes", "yes") and yesno.closed_answer("no and yes", "no")


def test_scores_compare_with_the_target_whatever_its_case() -> None:
    assert yesno.score_mme("yes", ["Yes"], []).score == 1.0
    assert yesno.score_pope("mumble", ["no"], []).score == 0.0
    assert yesno.score_true_false_vlmevalkit("Yes", ["true"], []).read_as == "true"
    assert yesno.score_true_false_vlmevalkit("true", ["true"], []).score == 0.0
