"""JSON files row by row, each with its line: an array of objects, or an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mixtune.data.formats import RowError
from mixtune.data.sample import DataError

Row = tuple[str, "Any | RowError"]
"""Origin (`file.json:12`) and the row's value, or what is wrong with its text."""


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSON array (any layout) or of JSON lines, told apart by the first character.

    A wrong line gives a RowError as its value and reading goes on. DataError when the file cannot be read,
    is empty, or is an array with a mistake in it: where the next row begins cannot be known then.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if not start:
        raise DataError(f"{path}: is empty")
    if start == b"[":
        yield from _array(path, data)
    else:
        yield from _lines(path, data)


def _lines(path: Path, data: bytes) -> Iterator[Row]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        try:
            yield origin, json.loads(line)
        except UnicodeDecodeError as error:
            yield origin, RowError("line", repr(line), f"is not UTF-8 (byte {error.start})")
        except ValueError as error:
            where = f"column {error.colno}" if isinstance(error, json.JSONDecodeError) else "this line"
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            yield (
                origin,
                RowError("line", line.decode(errors="replace").strip(), f"is not JSON: {what} ({where})"),
            )


def _array(path: Path, data: bytes) -> Iterator[Row]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: is not UTF-8 (byte {error.start})") from error
    decoder, position, counted, line = json.JSONDecoder(), text.index("[") + 1, 0, 1
    while True:
        position = _skip(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            break
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno}: is not JSON: {error.msg} (column {error.colno})") from error
        yield f"{path}:{line}", value
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position += 1
        elif text[position : position + 1] != "]":
            at = text.count("\n", 0, position) + 1
            raise DataError(f"{path}:{at}: is not JSON: expected ',' or ']' after a row of the array")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
