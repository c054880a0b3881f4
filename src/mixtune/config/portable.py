"""Texts that say what was done without saying where on a machine: for files that leave it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixtune.config.places import mixtune_home

_NAME = r"[\w.@+,=-]+"
_START = r"(?<![\w.~$/…-])"  # not inside a word, a relative path or an address
_ELSEWHERE = re.compile(rf"{_START}(?:/{_NAME}){{2,}}/?")

Root = tuple[re.Pattern[str], str]
"""What finds a folder in a text (group 1: the slash before what lies in it), and what to write instead."""


def portable(value: Any, *folders: Path) -> Any:
    """Plain data of which no text tells where files lie on this machine; everything else as it is.

    A path inside the working folder or one of `folders` becomes relative to it, one inside mixtune's folder or the
    user's begins with `$MIXTUNE_HOME` or `~`, and of any other absolute path the last name is kept ("…/model").
    """
    places = [(path, "") for path in (Path.cwd(), *folders)]
    places += [(mixtune_home(), "$MIXTUNE_HOME"), (Path.home(), "~")]
    names = {str(spelled): name for path, name in reversed(places) for spelled in (path.absolute(), path.resolve())}
    inner = sorted((text for text in names if text != "/"), key=len, reverse=True)
    end = rf"(?:(/)(?={_NAME})|/?(?![\w@+-]|\.\w))"
    return _walked(value, [(re.compile(_START + re.escape(text) + end), names[text]) for text in inner])


def _walked(value: Any, roots: Sequence[Root]) -> Any:
    if isinstance(value, dict):
        return {key: _walked(each, roots) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_walked(each, roots) for each in value)
    if not isinstance(value, str) or "/" not in value:
        return value
    for pattern, name in roots:
        value = pattern.sub(functools.partial(_named, name), value)
    return _ELSEWHERE.sub(lambda found: f"…/{found[0].rstrip('/').rpartition('/')[2]}", value)


def _named(name: str, found: re.Match[str]) -> str:
    """What stands for a folder called `name`: that and a slash before what lies in it, or the folder itself."""
    if found[1]:
        return f"{name}/" if name else ""
    return name or "."
