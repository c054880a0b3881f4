"""Colours that stay apart for colour-blind readers, in light and dark, and one colour a model everywhere."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito, "Color Universal Design" (2008). A light and a dark page need different shades of one hue.
LIGHT = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7")
DARK = ("#56B4E9", "#E69F00", "#2CC79A", "#F0803C", "#E3A3C6")
# Blue, white, red of Brewer's RdBu (colorbrewer2.org), which red-green blindness does not mix up; centred at zero.
DIVERGING = ("#053061", "#2166AC", "#4393C3", "#92C5DE", "#F7F7F7", "#F4A582", "#D6604D", "#B2182B", "#67001F")
SILENT = "#C9CDD3"  # a cell that says nothing
UNTUNED = "#8A8F98"
UNTUNED_LABELS = ("untuned", "base", "zero-shot")


def series_of(labels: Sequence[str]) -> dict[str, str]:
    """The style name of each model: "untuned", or "s0", "s1", … in the order given, subject first."""
    tuned = [label for label in labels if label not in UNTUNED_LABELS]
    return {label: "untuned" if label in UNTUNED_LABELS else f"s{tuned.index(label) % len(LIGHT)}" for label in labels}


def colour_of(series: str, *, dark: bool = False) -> str:
    """Hex colour of a style name of `series_of`."""
    if series == "untuned":
        return UNTUNED
    return (DARK if dark else LIGHT)[int(series[1:])]
