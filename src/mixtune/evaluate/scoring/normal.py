"""Normal forms in which benchmarks compare short answers.

All descend from the evaluation code of VQA (Antol et al. 2015): marks are taken out, number words become digits,
articles go, contractions get their apostrophe back. The copies differ in small things that move scores, so each is kept
apart under the name of its user.
"""

from __future__ import annotations

import re

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    "none": "0",
    **{word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())},
}
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIOD_AWAY_FROM_DIGITS = re.compile(r"(?<!\d)\.(?!\d)")
# The official code passes the flag re.UNICODE (32) where `count` stands: 32 periods at most are taken out.
_MOST_PERIODS = 32

# The table of the official code holds every spelling of these that lacks one apostrophe. "somebody'd" is mapped the
# other way round there. Its three entries with a capital I never meet a lower-cased word.
_CONTRACTIONS_WHOLE = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't
must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's
there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've""".split()


def _lacking_one(word: str) -> list[str]:
    """`word` without its first apostrophe, without its second, and so on."""
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {short: word for word in _CONTRACTIONS_WHOLE for short in _lacking_one(word)} | {
    "somebody'd": "somebodyd"
}
"""Spelling without one apostrophe to the whole contraction."""


def _without_marks(text: str, period: re.Pattern[str]) -> str:
    """Each mark is deleted where it stands beside a space somewhere (or a number holds a comma), else it becomes a
    space; then the periods that `period` finds are deleted.
    """
    deletes_all = _COMMA_IN_NUMBER.search(text) is not None
    found = text
    for mark in _MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside_space or deletes_all else " ")
    return period.sub("", found, count=_MOST_PERIODS)


def _plain_words(text: str) -> str:
    """Lower case, number words up to ten as digits, no articles, contractions with their apostrophe."""
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def evalai_answer(text: str) -> str:
    """The form of EvalAI's TextVQA and VQA scoring.

    Lower case; commas and question marks out; ``'s`` split off; then marks, periods not before a digit, number words,
    articles, contractions. Source: EvalAIAnswerProcessor, facebookresearch/mmf, mmf/utils/m4c_evaluators.py.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _plain_words(_without_marks(_one_line(text), _PERIOD))


def vqa_answer(text: str) -> str:
    """As `evalai_answer` without its first step (commas, question marks, ``'s``).

    Source: VQAEval of GT-Vision-Lab/VQA, as in OpenGVLab/Multi-Modality-Arena, tiny_lvlm_evaluation/utils/tools.py.
    """
    return _plain_words(_without_marks(_one_line(text), _PERIOD))


def vlmevalkit_answer(text: str) -> str:
    """As `vqa_answer`, but a period after a digit stays ("3." is not "3").

    Source: process_answer, open-compass/VLMEvalKit, vlmeval/dataset/utils/vqa_eval.py.
    """
    return _plain_words(without_marks_vlmevalkit(_one_line(text)))


def without_marks_vlmevalkit(text: str) -> str:
    """VLMEvalKit's process_punctuation (vlmeval/smp/misc.py)."""
    return _without_marks(text, _PERIOD_AWAY_FROM_DIGITS)


def llava_med_answer(text: str) -> str:
    """`vqa_answer` of the lower-cased text, commas out at the end.

    Source: normalize_word, microsoft/LLaVA-Med at b9a98a7, llava/eval/eval_metrics/glossary.py.
    """
    return _plain_words(_without_marks(text.lower(), _PERIOD)).replace(",", "")


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
