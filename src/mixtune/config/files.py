"""Writing small files so that a reader, or the next start after a kill, sees the old file or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Write a text file through a hidden sibling, flushed to disk, and one rename."""
    draft = path.with_name(f".{path.name}.partial")
    with draft.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(draft, path)
