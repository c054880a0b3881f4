"""One process at a time makes what the pocket suite keeps on disk; others wait and then find it made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "preparing.lock"


@contextmanager
def preparing(root: Path, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold the folder `root`, waiting while another process does, which `say` is told.

    What is missing must be looked for inside the block: whoever waited may find it made. A killed process leaves the
    file but no lock.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process prepares the pocket suite in {root}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
