"""Tables that hold their pictures: VLMEvalKit's TSV files, parquet files, hub datasets. Pictures are read late."""

from __future__ import annotations

import ast
import base64
import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mixtune.data.sample import DataError, ImageRef
from mixtune.data.tables import load_split, picture_columns

SHORTEST_PICTURE = 65  # VLMEvalKit: a shorter cell names the row whose picture it shares
LARGEST_CELL = 2**30


def tsv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a TSV file whose `image` column is base64, or the `index` of the row that has the picture.

    An `answer` that is written as a Python list becomes one.

    The pictures are not kept: where a row begins and ends in the file is, and it is read again. Raises DataError if the
    file is not one.
    """
    try:
        yield from _tsv_rows(path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as TSV ({error})") from error


def _tsv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(LARGEST_CELL)  # the module's own limit is 128 kB, less than a picture
    with path.open("rb") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter="\t")
        header = next(reader, [])
        if "index" not in header:
            raise DataError(f"{path}: is no TSV of questions: its first line has no column `index`")
        shared: dict[str, ImageRef] = {}
        start = lines.offset
        for cells in reader:
            row: dict[str, Any] = dict(zip_longest(header, cells[: len(header)], fillvalue=""))
            index, picture = row["index"], row.get("image", "")
            if len(picture) >= SHORTEST_PICTURE:
                read = partial(_tsv_picture, path, start, lines.offset - start, header.index("image"))
                shared[index] = row["image"] = ImageRef(f"{path}#{index}", read)
            elif picture in shared:
                row["image"] = shared[picture]
            start = lines.offset
            yield f"{path}:{index}", {**row, "answer": _maybe_list(row.get("answer", ""))}


def _maybe_list(text: str) -> Any:
    try:
        return ast.literal_eval(text) if text.startswith("[") else text
    except (ValueError, SyntaxError):
        return text


class _Lines:
    """Lines of a binary file as text, and how far it has been read."""

    def __init__(self, file: Any):
        self.file, self.offset = file, 0

    def __iter__(self) -> Iterator[str]:
        for line in self.file:
            self.offset += len(line)
            yield line.decode("utf-8-sig" if self.offset == len(line) else "utf-8")


def _tsv_picture(path: Path, start: int, length: int, column: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        text = file.read(length).decode("utf-8")
    cell = next(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))[column]
    return base64.b64decode(cell)


def parquet_rows(files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Rows of parquet files, in the order given."""
    name = str(files[0].parent)
    yield from _rows(load_split("parquet", "train", name=name, files=[str(file) for file in files]), name)


def hub_rows(dataset: str, config: str | None, split: str) -> Iterator[tuple[str, Any]]:
    """Rows of a dataset of the Hugging Face hub, of a folder laid out like one, or of one that was saved to disk.

    `config` is the configuration to take where the dataset has one of that name. Raises DataError naming the dataset.
    """
    yield from _rows(load_split(dataset, split, config), dataset)


def _rows(table: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Rows with references for pictures, or for lists of one picture."""
    pictures = picture_columns(table)
    plain = table.remove_columns(pictures)
    for number, row in enumerate(plain):
        refs = {
            column: ImageRef(f"{name}[{number}].{column}", partial(_cell_bytes, table, number, column))
            for column in pictures
        }
        yield f"{name}[{number}]", {**row, **refs}


def _cell_bytes(table: Any, number: int, column: str) -> bytes:
    value = table[number][column]
    if isinstance(value, list):
        if len(value) != 1:
            raise DataError(f"holds {len(value)} pictures; a benchmark's question has one")
        value = value[0]
    if value is None:
        raise DataError("holds no picture")
    return bytes(value["bytes"]) if value["bytes"] is not None else Path(value["path"]).read_bytes()
