"""How the report writes numbers, so that a number looks the same in a sentence, in a table and under a finger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "–"
FEW = 10  # drawn again, fewer observations than this vary too little for a bootstrap's interval to be trusted


@dataclass(frozen=True)
class Said:
    """A paragraph of the answer: its topic in a word or two ("" for none), and the text."""

    topic: str
    text: str


def points(value: float) -> str:
    """A share as percentage points with sign: +3.1, −0.4, 0.0."""
    text = f"{abs(100 * value):.1f}"
    return text if text == "0.0" else f"{'−' if value < 0 else '+'}{text}"


def percent(value: float | None) -> str:
    """A share as a percentage with one digit; a dash for None."""
    return DASH if value is None else f"{100 * value:.1f} %"


def signed(value: float) -> str:
    """A plain number with two digits and a sign: +0.18, −1.16."""
    text = f"{abs(value):.2f}"
    return text if text == "0.00" else f"{'−' if value < 0 else '+'}{text}"


def p_value(value: float | None) -> str:
    """A p-value with the digits it is worth: 0.30, 0.004, < 0.001; a dash for None."""
    if value is None:
        return DASH
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def p_words(value: float) -> str:
    """The same inside a sentence: "p = 0.30", "p < 0.001"."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def count(value: float | None) -> str:
    """A whole number with thousands marked; a dash for None."""
    return DASH if value is None else f"{round(value):,}"


def plural(number: int, word: str) -> str:
    """A number and its noun: 1 seed, 3 seeds."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def few_words(number: int, word: str, of: str = "a task") -> str:
    """What to say of intervals that were made from few observations of a task; "" where there are enough."""
    return f"Only {plural(number, word)} {of}: these intervals are too narrow to go by." if number < FEW else ""


def listed(words: Sequence[str]) -> str:
    """Words in a row: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, whichever reads best; a dash for None."""
    if seconds is None:
        return DASH
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def gigabytes(value: float | None) -> str:
    """Bytes in units of 10⁹; a dash for None."""
    return DASH if value is None else f"{value / 1e9:.2f} GB"


def interval(entry: Mapping[str, Any]) -> str:
    """The ends of a difference's interval in points: "−0.9 to +3.0"."""
    return f"{points(entry['low'])} to {points(entry['high'])}"


def sign_of(entry: Mapping[str, Any]) -> str:
    """▲ where the interval lies above zero, ▼ where it lies below, nothing where it holds zero."""
    return "▲" if entry["low"] > 0 else "▼" if entry["high"] < 0 else ""
