"""Answers read as yes or no, true or false: every harness has a rule of its own, and they differ by whole points."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mixtune.evaluate.scoring.normal import llava_med_answer, without_marks_vlmevalkit
from mixtune.evaluate.scoring.scored import Scored

OTHER = "other"


def mme_answer(answer: str) -> str:
    """Yes, no or other: of the lower-cased answer, or else of its first four characters, "yes" before "no".

    So "Yes, it is" is yes and "The answer is yes" is other; "nope" and "not" are no, as is "I no"; a leading blank
    counts as a character. Source: parse_pred_ans in calculation.py of the MME evaluation tool (eval_tool.zip of
    BradyFU/Awesome-Multimodal-Large-Language-Models; Fu et al. 2023, arXiv 2306.13394).
    """
    text = answer.lower()
    return text if text in ("yes", "no") else _in_first_four(text)


def mme_answer_lmms_eval(answer: str) -> str:
    """As `mme_answer` after white space at the ends and every period are taken out; "y" and "n" count too.

    Source: parse_pred_ans, EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/mme/utils.py.
    """
    text = answer.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text, OTHER)
    return text if text in ("yes", "no") else _in_first_four(text)


def _in_first_four(text: str) -> str:
    return next((label for label in ("yes", "no") if label in text[:4]), OTHER)


def pope_answer(answer: str) -> str:
    """No if the first sentence has the word No, no or not, else yes: silence and nonsense are yes.

    The first sentence ends at the first period; commas are taken out; words are parted by single spaces, so that "NO",
    "no!" and "No" before a line break are yes. Source: RUCAIBox/POPE, evaluate.py (Li et al. 2023, arXiv 2305.10355).
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if any(word in words for word in ("No", "not", "no")) else "yes"


def pope_answer_lmms_eval(answer: str) -> str:
    """The lower-cased answer without white space at its ends, as it is: "Yes." is neither yes nor no.

    Source: EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/pope/utils.py.
    """
    text = answer.lower().strip()
    return text if text in ("yes", "no") else OTHER


def yes_no_word(answer: str) -> str:
    """Yes or no if that word occurs and the other does not, else other (Unknown there).

    Source: YOrN_Extraction, open-compass/VLMEvalKit, vlmeval/dataset/utils/yorn.py, without its optional judge model.
    """
    words = without_marks_vlmevalkit(answer.lower()).split()
    found = [label for label in ("yes", "no") if label in words]
    return found[0] if len(found) == 1 else OTHER


def true_false(answer: str) -> str:
    """True or false: which of the words true, yes, false, no comes first; other if none occurs.

    VSR (Liu et al. 2023, TACL, arXiv 2205.00363) scores a classifier by the share of right labels and has no rule for
    generated text; this reading is mixtune's.
    """
    found = re.search(r"\b(true|yes|false|no)\b", answer.lower())
    return {"true": "true", "yes": "true", "false": "false", "no": "false"}[found[1]] if found else OTHER


def closed_answer(answer: str, target: str) -> bool:
    """Right if "yes" or "no" occurs anywhere in the answer and the target does, both in `llava_med_answer` form.

    Letters inside other words count: "I do not know" is right for "no". Source: microsoft/LLaVA-Med at b9a98a7,
    llava/eval/run_eval.py, CLOSED questions (Li et al. 2023, arXiv 2306.00890).
    """
    said = llava_med_answer(answer)
    return ("yes" in said or "no" in said) and llava_med_answer(target) in said


def _scored(read_as: str, targets: Sequence[str]) -> Scored:
    return Scored(score=float(read_as == targets[0].strip().lower()), read_as=read_as)


def score_mme(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`mme_answer` against the target."""
    return _scored(mme_answer(answer), targets)


def score_mme_lmms_eval(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`mme_answer_lmms_eval` against the target."""
    return _scored(mme_answer_lmms_eval(answer), targets)


def score_pope(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`pope_answer` against the target."""
    return _scored(pope_answer(answer), targets)


def score_pope_lmms_eval(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`pope_answer_lmms_eval` against the target."""
    return _scored(pope_answer_lmms_eval(answer), targets)


def score_yes_no_word(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`yes_no_word` against the target."""
    return _scored(yes_no_word(answer), targets)


def score_true_false(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`true_false` against the target."""
    return _scored(true_false(answer), targets)


def score_true_false_vlmevalkit(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`yes_no_word` against a true or false target: VLMEvalKit asks VSR as a question to be answered yes or no."""
    said = {"yes": "true", "no": "false"}.get(yes_no_word(answer), OTHER)
    return _scored(said, targets)
