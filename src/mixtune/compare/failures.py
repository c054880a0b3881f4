"""Why a command failed, in a line that a table can hold."""

from __future__ import annotations

import re
import signal
from pathlib import Path

HEADED = "$ mixtune "  # begins the line that a launcher writes before each command's own
TAIL, LONGEST = 4096, 300  # bytes of a log that are looked through, and the letters kept of a line

BAR = re.compile(r"\d+%\||━")  # a progress bar, which is drawn once more after the error that ends a command


def reason(status: int, log: Path) -> str:
    """Why a command failed: the signal that ended it, or the last line it printed that is no progress bar."""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return f"ended by {name}" + (", as a system out of memory does" if name == "SIGKILL" else "")
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        lines = []
    last = next((line for line in reversed(lines) if line and not BAR.search(line)), "")
    return last[:LONGEST] if last and not last.startswith(HEADED) else f"left with {status}"
