"""Writing small files so that a reader, or the next start after a kill, sees the old file or the new one; and whether
anything can be written at all.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Write a text file through a hidden sibling, flushed to disk, and one rename."""
    draft = path.with_name(f".{path.name}.partial")
    with draft.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(draft, path)


def writing_error(folder: Path) -> OSError | None:
    """What stops files from being made in a folder or, while it is missing, in its nearest parent (the error's
    `filename`); None if nothing does. Leaves nothing behind.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return OSError(error.errno, error.strerror, str(nearest))
