"""Scorers: pure functions from an answer and a target to right or wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_EDGE = " \t\r\n.,;:!?\"'`()[]{}*"


def normalise_answer(text: str) -> str:
    """The form in which answers are compared: Unicode NFKC, case folded, runs of white
    space to one space, and punctuation, quotes and brackets taken off both ends.
    Nothing inside is changed: articles, signs and digits stay.
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_EDGE) or folded


def exact_match(answer: str, target: str) -> bool:
    """True if both have the same normal form; "Red." matches "red", "a red one" does not."""
    return normalise_answer(answer) == normalise_answer(target)


def best_option(scores: Sequence[float]) -> int:
    """Index of the highest score, the first of equals. Raises ValueError if there are none or one is not a number."""
    if not scores:
        raise ValueError("scores: needs at least one option")
    if any(score != score for score in scores):
        raise ValueError(f"scores: not a number among {list(scores)}")
    return max(range(len(scores)), key=scores.__getitem__)


def chance_level(option_counts: Sequence[int]) -> float | None:
    """Expected accuracy of a blind choice among the options: the mean
    of 1 / n. None where a sample lists no options.
    """
    if not option_counts or any(count < 1 for count in option_counts):
        return None
    return sum(1.0 / count for count in option_counts) / len(option_counts)
