"""Colours that stay apart for colour-blind readers, in light and dark, and one colour a model everywhere."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito, "Color Universal Design" (2008). A light and a dark page need different shades of one hue.
LIGHT = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7")
DARK = ("#56B4E9", "#E69F00", "#2CC79A", "#F0803C", "#E3A3C6")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # 25 models differ in colour or dash
# Blue, white, red of Brewer's RdBu (colorbrewer2.org), which red-green blindness does not mix up; centred at zero.
DIVERGING = ("#053061", "#2166AC", "#4393C3", "#92C5DE", "#F7F7F7", "#F4A582", "#D6604D", "#B2182B", "#67001F")
# The same two hues for a dark page: zero is dark, the ends are bright.
DIVERGING_DARK = ("#B5DCF5", "#6DB3E2", "#3A82BD", "#27557F", "#232830", "#7A342C", "#BE4C3C", "#EE7E68", "#FFC2B3")
SILENT, SILENT_DARK = "#C9CDD3", "#4A525D"  # a cell that says nothing
UNTUNED = "#8A8F98"
UNTUNED_LABELS = ("untuned", "base", "zero-shot")
INK, SOFT, FAINT, PAPER = "#1f2328", "#59636e", "#d8dee4", "#ffffff"  # of still pictures


def series_of(labels: Sequence[str], untuned: Sequence[str] = UNTUNED_LABELS) -> dict[str, str]:
    """The style name of each model: "untuned", or "s0", "s1", … in the order given, subject first. Beyond the number
    of colours the names go on, and `colour_of` and `dash_of` say how those are drawn.
    """
    tuned = [label for label in labels if label not in untuned]
    return {label: "untuned" if label in untuned else f"s{tuned.index(label)}" for label in labels}


def colour_of(series: str, *, dark: bool = False) -> str:
    """Hex colour of a style name of `series_of`."""
    if series == "untuned":
        return UNTUNED
    return (DARK if dark else LIGHT)[int(series[1:]) % len(LIGHT)]


def dash_of(series: str) -> str:
    """How a line of this style is drawn, in plotly's words: models that share a colour differ in their dashes."""
    return "solid" if series == "untuned" else DASHES[int(series[1:]) // len(LIGHT) % len(DASHES)]
