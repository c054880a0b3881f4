"""Words for one difference of a comparison: what it says, how large it is, how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixtune.analyse.report.words import interval, p_words, plural, points

Gap = Mapping[str, Any]


def verdict(gap: Gap) -> str:
    """What a difference says: "ahead", "behind", or "undecided" where the file does not call it decided."""
    return "undecided" if not gap["decided"] else "ahead" if gap["mean"] > 0 else "behind"


def size_words(gap: Gap) -> str:
    """How large it is, without a sign, and its interval."""
    low, high = sorted(abs(gap[end]) for end in ("low", "high"))
    return f"{100 * abs(gap['mean']):.1f} points (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def doubt_words(gap: Gap) -> str:
    """Interval, corrected p and seeds."""
    seeds = len(gap["by_seed"])
    few = "one seed: another could differ" if seeds == 1 else plural(seeds, "seed")
    return f"95 % interval {interval(gap)}, {p_words(gap['p_holm'])} after Holm's correction, {few}"


def named(arm: str, gap: Gap) -> str:
    """An arm with its difference, in a list of such."""
    few = ", one seed" if len(gap["by_seed"]) == 1 else ""
    return f"{arm} {points(gap['mean'])} points ({interval(gap)}, {p_words(gap['p_holm'])}{few})"
