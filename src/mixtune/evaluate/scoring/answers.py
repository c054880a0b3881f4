"""Scores of short free answers: soft accuracy, relaxed accuracy, ANLS, containment, token overlap, one label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from mixtune.evaluate.scorers import exact_match
from mixtune.evaluate.scoring.normal import evalai_answer, llava_med_answer, vlmevalkit_answer, vqa_answer
from mixtune.evaluate.scoring.scored import Scored
from mixtune.evaluate.scoring.yesno import closed_answer


def soft_accuracy(answer: str, answers: Sequence[str], normalise: Callable[[str], str] = evalai_answer) -> float:
    """VQA's soft accuracy, leave-one-out: mean over people i of min(1, matches among the others / 3).

    Of ten people 1, 2, 3, 4 or more with the same answer give 0.3, 0.6, 0.9, 1.0. Source: TextVQAAccuracyEvaluator,
    facebookresearch/mmf, mmf/utils/m4c_evaluators.py (Singh et al. 2019, arXiv 1904.08920).
    """
    said, people = normalise(answer), [normalise(each) for each in answers]
    matches = sum(each == said for each in people)
    return sum(min(1.0, (matches - (each == said)) / 3) for each in people) / len(people)


def relaxed_accuracy(answer: str, target: str) -> bool:
    """ChartQA's rule: numbers within 5 % of the target, any other text equal but for case.

    "n %" is n / 100 (so "5%" is not "5"). Where one of both is no number, or the target is zero, the texts are
    compared: "0.0" is not "0", "1,200" no number. White space at the ends counts: strip it first where the protocol
    does. Source: Masry et al. 2022 (arXiv 2203.10244), section 5.1; google-research/pix2struct, pix2struct/metrics.py.
    """
    said, right = _number(answer), _number(target)
    if said is not None and right:
        return abs(said - right) / abs(right) <= 0.05
    return answer.lower() == target.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions of one character."""
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != other))
    return row[-1]


def anls(answer: str, targets: Sequence[str]) -> float:
    """Normalised Levenshtein similarity to the nearest target, 0 where it is below one half.

    NL = distance / longer length; distances ignore case and repeated white space, lengths are those of the raw texts.
    The paper (Biten et al. 2019, arXiv 1905.13648, equation 1) gives 0 already at NL = 0.5; the evaluation script keeps
    that 0.5, and so does this. Source: the script of the Robust Reading Competition (rrc.cvc.uab.es, challenge 17), as
    QwenLM/Qwen-VL has it in eval_mm/infographicsvqa_eval.py.
    """

    def distance(target: str) -> float:
        longest = max(len(target), len(answer))
        said, right = (" ".join(text.lower().split()) for text in (answer, target))
        return edit_distance(said, right) / longest if longest else 0.0

    similarity = 1 - min(distance(target) for target in targets)
    return similarity if similarity >= 0.5 else 0.0


def contains_target(answer: str, targets: Sequence[str]) -> bool:
    r"""Whether a target stands in the answer between word boundaries (``\b``), both in `vqa_answer` form.

    A target of which the normal form leaves nothing is in every answer that has a word. Source: VQAEval.evaluate,
    OpenGVLab/Multi-Modality-Arena, tiny_lvlm_evaluation/utils/tools.py (Shao et al. 2023, arXiv 2308.03729).
    """
    said = vqa_answer(answer)
    return any(re.search(rf"\b{re.escape(vqa_answer(target))}\b", said) for target in targets)


def token_overlap(answer: str, target: str) -> tuple[float, float, float]:
    """F1, precision and recall of words, in `llava_med_answer` form.

    A shared word counts as often as the *answer* has it, also in the recall: TP = count in the answer, FP = words of
    the answer alone, FN = words of the target alone. All three are 0 without a shared word. Source: calculate_f1score,
    microsoft/LLaVA-Med at b9a98a7, llava/eval/eval_metrics/evaluate_metrics.py.
    """
    said, right = (Counter(llava_med_answer(text).split()) for text in (answer, target))
    shared = sum(count for word, count in said.items() if word in right)
    if not shared:
        return 0.0, 0.0, 0.0
    precision = shared / said.total()
    recall = shared / (shared + sum(count for word, count in right.items() if word not in said))
    return 2 * precision * recall / (precision + recall), precision, recall


def one_label(answer: str, labels: Sequence[str]) -> str | None:
    """The label that stands in the answer as whole words; None if there is none or more than one.

    Case and underscores are ignored; a label inside a longer one ("table" in "dining table") is not seen. Founding
    papers that ask for a class name judge the answer with Vicuna (see docs/evaluation.md); this reading is mixtune's.
    """
    text, found = " ".join(answer.lower().replace("_", " ").split()), []
    for label in sorted(labels, key=len, reverse=True):
        text, times = re.subn(rf"\b{re.escape(label.lower().replace('_', ' '))}\b", "\0", text)
        found += [label] * bool(times)
    return found[0] if len(found) == 1 else None


def score_exact(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`exact_match`, the rule of mixtune's own samples."""
    return Scored(score=float(exact_match(answer, targets[0])))


def score_soft(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`soft_accuracy` in EvalAI's form."""
    return Scored(score=soft_accuracy(answer, targets), graded=True)


def score_soft_vlmevalkit(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`soft_accuracy` in VLMEvalKit's form."""
    return Scored(score=soft_accuracy(answer, targets, vlmevalkit_answer), graded=True)


def score_relaxed(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`relaxed_accuracy` of the stripped answer, the best of the targets."""
    return Scored(score=float(any(relaxed_accuracy(answer.strip(), target) for target in targets)))


def score_relaxed_unstripped(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`relaxed_accuracy` of the answer as it is, against the first target."""
    return Scored(score=float(relaxed_accuracy(answer, targets[0])))


def score_anls(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`anls`."""
    return Scored(score=anls(answer, targets), graded=True)


def score_containment(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`contains_target`."""
    return Scored(score=float(contains_target(answer, targets)))


def score_label(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`one_label` among the options against the target; ``exact``: the answer is the label and nothing more."""
    label = one_label(answer, options)
    exact = " ".join(answer.lower().replace("_", " ").split()).strip(" .") == targets[0].lower()
    return Scored(score=float(label == targets[0]), read_as=label or "other", details={"exact": float(exact)})


def score_digit(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """`score_label` after the words zero to nine became digits; "10" and "3.5" are none."""
    digits = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine".split())}
    text = re.sub(r"[a-z]+", lambda found: digits.get(found[0], found[0]), answer.lower())
    return score_label(re.sub(r"\d+[.,]\d+", " ", text), targets, options)


def score_pathvqa(answer: str, targets: Sequence[str], options: Sequence[str]) -> Scored:
    """Closed questions (target yes or no): `closed_answer`. Open ones: the recall of `token_overlap`, with F1 and
    precision as details.
    """
    if targets[0].strip().lower() in ("yes", "no"):
        return Scored(score=float(closed_answer(answer, targets[0])))
    f1, precision, recall = token_overlap(answer, targets[0])
    return Scored(score=recall, graded=True, details={"f1": f1, "precision": precision})
