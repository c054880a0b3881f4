"""Where mixtune keeps what it makes for itself, and how paths in settings are read."""

from __future__ import annotations

import os
from pathlib import Path


def mixtune_home() -> Path:
    """Folder of caches and prepared assets: `$MIXTUNE_HOME`, or `~/.cache/mixtune` where that is not set."""
    return Path(os.environ.get("MIXTUNE_HOME") or "~/.cache/mixtune").expanduser()


def expand_path(text: str) -> str:
    """`text` with a leading `~` and environment variables filled in; `$MIXTUNE_HOME` always has a value."""
    for spelling in ("${MIXTUNE_HOME}", "$MIXTUNE_HOME"):
        text = text.replace(spelling, str(mixtune_home()))
    return os.path.expanduser(os.path.expandvars(text))


def movable_path(path: str) -> str:
    """The path with `$MIXTUNE_HOME` for mixtune's own folder, which `expand_path` reads back: what is kept or hashed so
    means the same file on a machine where that folder is another.
    """
    home = str(mixtune_home())
    return f"$MIXTUNE_HOME{path[len(home) :]}" if path.startswith(home + os.sep) else path
