"""The table of benchmarks, and what `--benchmark NAME`, `NAME=PATH` and `NAME=hf:ID` stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixtune.config import expand_path, near
from mixtune.data.sample import DataError
from mixtune.evaluate.benchmarks.founding import FOUNDING
from mixtune.evaluate.benchmarks.rows import Pictures, items_of, json_rows
from mixtune.evaluate.benchmarks.second import SECOND
from mixtune.evaluate.benchmarks.table import Benchmark, Items, Protocol
from mixtune.evaluate.benchmarks.tables import hub_rows, parquet_rows, tsv_rows

BENCHMARKS: dict[str, Benchmark] = {row.name: row for row in (*FOUNDING, *SECOND)}
OFFICIAL = "official"
HUB = "hf:"


@dataclass(frozen=True)
class Wanted:
    """A benchmark and where it is: a path, "hf:ID" of a hub dataset, or None for the id it goes by."""

    benchmark: Benchmark
    location: str | None


def wanted(text: str) -> Wanted | None:
    """What an entry of `--benchmark` names; None if it is no benchmark's name but a file of samples.

    Raises ValueError with near names for NAME=... of an unknown name, and for a bare name that is no file either.
    """
    name, equals, location = text.partition("=")
    if name in BENCHMARKS:
        return Wanted(BENCHMARKS[name], location or None)
    if equals and not Path(expand_path(text)).exists():
        raise ValueError(f"--benchmark {text}: there is no benchmark '{name}'{near(name, BENCHMARKS)}")
    if not equals and not Path(text).suffix and not Path(expand_path(text)).exists() and "/" not in text:
        raise ValueError(f"--benchmark {text}: is neither a benchmark nor a file{near(text, ['pocket', *BENCHMARKS])}")
    return None


def protocol_of(name: str, protocol: str) -> Protocol:
    """A benchmark's protocol. Raises ValueError naming those it has."""
    rows = BENCHMARKS[name].protocols
    if protocol not in rows:
        raise ValueError(f"--protocol {protocol}: {name} has only {', '.join(rows)}")
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
        raise DataError(f"{benchmark.name}: no public dataset id has its pictures and labels; {how}")
    try:
        config = None if dataset else benchmark.config
        yield from items_of(hub_rows(name, config, benchmark.split), benchmark, Pictures(Path(), ()))
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
    """Items of the folder's own layout, else of the official files in it or two levels below, else of its tables."""
    if benchmark.folder is not None and (items := benchmark.folder(folder, benchmark)) is not None:
        return items
    files = [file for name in benchmark.files if (file := _below(folder, name))]
    files = files if benchmark.part_of_file else files[:1]
    if files:
        return (item for file in files for item in _file_items(file, benchmark))
    tables = sorted(file for level in ("*", "*/*") for file in folder.glob(f"{level}.parquet"))
    tables = [file for file in tables if file.name.startswith(benchmark.split)] or tables
    if tables:
        return items_of(parquet_rows(tables), benchmark, Pictures(folder, benchmark.images))
    sought = ", ".join([*benchmark.files, "*.parquet"])
    raise DataError(f"{folder}: holds nothing that {benchmark.title} is read from ({sought}); {benchmark.obtain}")


def _below(folder: Path, name: str) -> Path | None:
    """The first file of that name in the folder, its sub-folders or theirs."""

    def places() -> Iterator[Path]:
        for level in ("", "*/", "*/*/"):
            yield from sorted(folder.glob(level + name))

    return next(places(), None)
