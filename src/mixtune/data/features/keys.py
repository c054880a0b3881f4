"""Names of features: a picture's own, and that of everything else its features depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mixtune.data.sample import DataError, ImageRef


def picture_bytes(ref: ImageRef) -> bytes:
    """The encoded file of a picture. DataError names one that cannot be read."""
    try:
        if ref.read:
            return ref.read()
        with open(ref.path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{ref}: the image cannot be read ({error})") from error


def picture_key(ref: ImageRef) -> str:
    """SHA-256 of a picture's encoded file: equal files are one picture, whatever they are called."""
    return hashlib.sha256(picture_bytes(ref)).hexdigest()


def space_key(facts: Mapping[str, Any]) -> str:
    """A short name for `facts`, all that features depend on besides the picture; another fact gives another name."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
