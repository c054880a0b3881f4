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
    return load_split(expand_path(source.path), source.split, name=source.path)


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def load_split(
    path: str, split: str, config: str | None = None, *, name: str | None = None, files: list[str] | None = None
) -> Any:
    """One split of a dataset: an id of the hub, a folder laid out like one, one that was saved, or the `files` of a
    format. Images are left encoded.

    `config` is the configuration to take where the dataset has one of that name. DataError calls the dataset `name` and
    names the split and near names.
    """
    from datasets import DatasetDict, get_dataset_config_names, load_dataset, load_from_disk

    name = name or path
    try:
        if is_saved(Path(path)):
            table = load_from_disk(path)
        else:
            known = config is not None and config in get_dataset_config_names(path)
            table = load_dataset(path, name=config if known else None, split=split, data_files=files)
    except Exception as error:  # the library raises many kinds, for missing files, ids, splits and connections
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{name}: split '{split}' cannot be loaded as a dataset ({reason})") from error
    if isinstance(table, DatasetDict):
        if split not in table:
            raise DataError(f"{name}: there is no split '{split}'{near(split, table)}")
        table = table[split]
    return _left_encoded(table)


def picture_columns(table: Any) -> list[str]:
    """The columns that hold a picture, or a list of them."""
    from datasets import Image

    found = table.features.items()
    return [name for name, kind in found if isinstance(getattr(kind, "feature", kind), Image)]


def _left_encoded(table: Any) -> Any:
    from datasets import Image

    for column in picture_columns(table):
        kind, encoded = table.features[column], Image(decode=False)
        table = table.cast_column(column, encoded if isinstance(kind, Image) else type(kind)(encoded))
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
