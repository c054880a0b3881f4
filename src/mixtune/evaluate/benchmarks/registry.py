"""The table of public benchmarks, and what `--benchmark NAME`, `NAME=PATH` and `NAME=hf:ID` stand for.

Functions take the table to look in, so that a room further down can hand over one with more rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mixtune.config import expand_path, near
from mixtune.data.sample import DataError
from mixtune.data.tables import is_saved
from mixtune.evaluate.benchmarks.founding import FOUNDING
from mixtune.evaluate.benchmarks.rows import Pictures, items_of, json_rows
from mixtune.evaluate.benchmarks.second import SECOND
from mixtune.evaluate.benchmarks.table import Benchmark, Items, Protocol
from mixtune.evaluate.benchmarks.tables import hub_rows, parquet_rows, tsv_rows

BENCHMARKS: Mapping[str, Benchmark] = {row.name: row for row in (*FOUNDING, *SECOND)}
OFFICIAL = "official"
HUB = "hf:"


@dataclass(frozen=True)
class Wanted:
    """A benchmark, the `name` it was asked by (its own, or that and what one that is drawn is told), and where it is:
    a path, "hf:ID" of a hub dataset, or None for the id it goes by.
    """

    benchmark: Benchmark
    name: str
    location: str | None


def row_of(name: str, table: Mapping[str, Benchmark] = BENCHMARKS) -> Benchmark | None:
    """The row of that name, or the drawn one of the longest name that goes on with a number or a slash
    ("pocket/conflict" of "pocket/conflict-0.5/validation"); None if there is none.
    """
    drawn = [row for row in table.values() if row.drawn and re.match(rf"{re.escape(row.name)}(-\d|/)", name)]
    return table[name] if name in table else max(drawn, key=lambda row: len(row.name), default=None)


def wanted(text: str, table: Mapping[str, Benchmark] = BENCHMARKS, images: Path | None = None) -> Wanted | None:
    """What an entry of `--benchmark` names; None if it is no benchmark's name but a file of samples.

    A file that lies there goes before what a drawn benchmark is told. `images` is a folder in which the benchmark's
    pictures are looked for too. Raises ValueError with near names for NAME=... of an unknown name, for a bare name that
    is no file either, and for the place of a benchmark that is drawn.
    """
    name, equals, location = text.partition("=")
    row = row_of(name, table)
    if row and (name in table or not Path(expand_path(text)).is_file()):
        if row.drawn and equals:
            raise ValueError(f"--benchmark {text}: {row.title} is drawn by mixtune and has no other place")
        if images:
            row = replace(row, images=(str(images.absolute()), *row.images))
        return Wanted(row, name, location or None)
    if equals and not Path(expand_path(text)).exists():
        raise ValueError(f"--benchmark {text}: there is no benchmark '{name}'{near(name, table)}")
    if not equals and not Path(text).suffix and not Path(expand_path(text)).exists() and "/" not in text:
        raise ValueError(f"--benchmark {text}: is neither a benchmark nor a file{near(text, table)}")
    return None


def protocol_of(benchmark: Benchmark, protocol: str) -> Protocol:
    """A benchmark's protocol. Raises ValueError naming those it has."""
    rows = benchmark.protocols
    if protocol not in rows:
        raise ValueError(f"--protocol {protocol}: {benchmark.name} has only {', '.join(rows)}")
    return rows[protocol]


def read_items(found: Wanted) -> Items:
    """Items of a benchmark from its location. Raises DataError that says what was looked for and how to obtain it."""
    benchmark, location = found.benchmark, found.location
    if location is None or location.startswith(HUB):
        yield from _hub_items(benchmark, location.removeprefix(HUB) if location else None)
        return
    path = Path(expand_path(location))
    if not path.exists():
        raise DataError(
            f"{path}: there is no such file or folder; to get {benchmark.title}: {benchmark.obtain} "
            f"(a hub dataset is written {benchmark.name}={HUB}OWNER/NAME)"
        )
    yield from _file_items(path, benchmark) if path.is_file() else _folder_items(path, benchmark)


def _hub_items(benchmark: Benchmark, dataset: str | None) -> Items:
    name = dataset or benchmark.dataset
    how = f"give a folder as {benchmark.name}=PATH: {benchmark.obtain}"
    if name is None:
        raise DataError(f"{benchmark.name}: no dataset id is known that has its pictures and labels; {how}")
    try:
        rows = hub_rows(expand_path(name), benchmark.config, benchmark.split)
        yield from items_of(rows, benchmark, Pictures(Path(), benchmark.images))
    except DataError as error:
        raise DataError(f"{error}\n{how}") from error


def _file_items(path: Path, benchmark: Benchmark) -> Items:
    pictures, kind = Pictures(path.parent, benchmark.images), path.suffix.lower()
    part = benchmark.part_of_file(path) if benchmark.part_of_file else ""
    if kind in (".json", ".jsonl", ".ndjson"):
        return items_of(json_rows(path), benchmark, pictures, part)
    if kind == ".tsv":
        return items_of(tsv_rows(path), benchmark, pictures)
    if kind == ".parquet":
        return items_of(parquet_rows([path]), benchmark, pictures)
    raise DataError(f"{path}: {benchmark.title} is read from .json, .jsonl, .tsv or .parquet; {benchmark.obtain}")


def _folder_items(folder: Path, benchmark: Benchmark) -> Items:
    """Items of the folder's own layout, else of the official files in it or two levels below, else of a dataset saved
    there, else of its tables: those of the benchmark's configuration and split, where they are told apart.
    """
    if benchmark.folder is not None and (items := benchmark.folder(folder, benchmark)) is not None:
        return items
    files = [file for name in benchmark.files if (file := _below(folder, name))]
    files = files if benchmark.part_of_file else files[:1]
    if files:
        return (item for file in files for item in _file_items(file, benchmark))
    pictures = Pictures(folder, benchmark.images)
    if is_saved(folder):
        return items_of(hub_rows(str(folder), benchmark.config, benchmark.split), benchmark, pictures)
    tables = sorted(file for level in ("*", "*/*") for file in folder.glob(f"{level}.parquet"))
    tables = [file for file in tables if file.parent.name == benchmark.config] or tables
    tables = [file for file in tables if file.name.startswith(benchmark.split)] or tables
    if tables:
        return items_of(parquet_rows(tables), benchmark, pictures)
    sought = ", ".join([*benchmark.files, "*.parquet"])
    raise DataError(f"{folder}: holds nothing that {benchmark.title} is read from ({sought}); {benchmark.obtain}")


def _below(folder: Path, name: str) -> Path | None:
    """The first file of that name in the folder, its sub-folders or theirs."""

    def places() -> Iterator[Path]:
        for level in ("", "*/", "*/*/"):
            yield from sorted(folder.glob(level + name))

    return next(places(), None)
