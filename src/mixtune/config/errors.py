"""The error of wrong settings, and the hint that names what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 20


class ConfigError(ValueError):
    """All mistakes of one recipe, one a line: `file:line: key: what is wrong, the value; near names`."""

    def __init__(self, mistakes: Sequence[str]):
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


def near(name: object, choices: Iterable[object]) -> str:
    """Hint to append to "unknown `name`": `; did you mean 'x'?` if one is close, else `; choose from a, b`.

    Case is ignored. At most 20 choices are written out. Without choices the hint is empty.
    """
    known = [str(choice) for choice in choices]
    lowered = {choice.lower(): choice for choice in reversed(known)}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{lowered[close[0]]}'?"
    if not known:
        return ""
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return "; choose from " + ", ".join(known[:SHOWN]) + more
