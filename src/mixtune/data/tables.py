"""Rows of a `datasets` dataset: an id of the hub, a folder it can load, or one saved with `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mixtune.config import SourceSettings, expand_path, near
from mixtune.data.sample import DataError, ImageRef

IMAGE_COLUMNS = ("image", "images")


@dataclass(frozen=True)
class Cell:
    """One image of a dataset: held in the table (`in_table`), or a file that the table names by `path`."""

    table: Any
    name: str
    row: int
    column: str
    number: int | None
    path: str | None
    in_table: bool

    def reference(self) -> ImageRef:
        """A reference that fetches the bytes from the table when wanted: they are not kept in memory."""
        place = self.column if self.number is None else f"{self.column}[{self.number}]"
        read = partial(_cell_bytes, self.table, self.row, self.column, self.number)
        return ImageRef(f"{self.name}[{self.row}].{place}", read)


def _cell_bytes(table: Any, row: int, column: str, number: int | None) -> bytes:
    value = table[row][column]
    return bytes((value if number is None else value[number])["bytes"])


def open_table(source: SourceSettings) -> Any:
    """One split of the dataset, images left encoded. DataError names the path, the split, near names."""
    from datasets import DatasetDict, load_dataset, load_from_disk

    path = Path(expand_path(source.path))
    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        table = load_from_disk(str(path)) if saved else load_dataset(str(path), split=source.split)
    except Exception as error:  # the library raises many kinds, for missing files, ids, splits and connections
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{source.path}: split '{source.split}' cannot be loaded as a dataset ({reason})") from error
    if isinstance(table, DatasetDict):
        if source.split not in table:
            raise DataError(f"{source.path}: there is no split '{source.split}'{near(source.split, table)}")
        table = table[source.split]
    return _left_encoded(table)


def _left_encoded(table: Any) -> Any:
    from datasets import Image

    for column in IMAGE_COLUMNS:
        feature = table.features.get(column)
        if isinstance(feature, Image):
            table = table.cast_column(column, Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            table = table.cast_column(column, type(feature)(Image(decode=False)))
    return table


def table_rows(table: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Origin (`name[12]`) and row of each row, its images as Cells."""
    for number, row in enumerate(table):
        for column in IMAGE_COLUMNS:
            if row.get(column) is not None:
                row[column] = _cells(table, name, number, column, row[column])
        yield f"{name}[{number}]", row


def _cells(table: Any, name: str, row: int, column: str, value: Any) -> Any:
    def cell(entry: Any, number: int | None) -> Any:
        if not isinstance(entry, dict) or "bytes" not in entry:
            return entry
        return Cell(table, name, row, column, number, entry.get("path"), entry["bytes"] is not None)

    return [cell(entry, at) for at, entry in enumerate(value)] if isinstance(value, list) else cell(value, None)
