"""Rows of JSON, TSV and parquet files and of hub datasets as items, by the names in a benchmark's `Columns`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixtune.data.files import read_rows
from mixtune.data.formats import RowError
from mixtune.data.sample import BadSample, ImageRef
from mixtune.evaluate.benchmarks.table import Benchmark, Columns, Item, Items


@dataclass(frozen=True)
class Pictures:
    """Where picture files lie: `root`, the folders of a benchmark in it or beside it."""

    root: Path
    folders: tuple[str, ...]

    def find(self, name: str) -> ImageRef:
        """The first place that has the file; where none has, the first that might (it is then listed as missing)."""
        homes = [self.root, *(self.root / f for f in self.folders), *(self.root.parent / f for f in self.folders)]
        places = [home / name for home in homes]
        return ImageRef(str(next((place for place in places if place.is_file()), places[0])))


def json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of JSON lines, of an array, or of the array under "data" of an object; each with its place in the file.

    Raises DataError for a file that cannot be read or is empty.
    """
    rows = read_rows(path)
    origin, value = next(rows)  # an empty file is a DataError
    if isinstance(value, RowError):
        value = _whole(path) or value
    if isinstance(value, Mapping) and isinstance(value.get("data"), list):
        yield from ((f"{path}[{number}]", row) for number, row in enumerate(value["data"]))
        return
    yield origin, value
    yield from rows


def _whole(path: Path) -> Any:
    """The file as one JSON value; None if it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return None


def items_of(rows: Iterator[tuple[str, Any]], row_of: Benchmark, pictures: Pictures, part: str = "") -> Items:
    """Items of the rows, or what is wrong with one. A part cell that lists several ("random,popular") gives several."""
    for origin, row in rows:
        try:
            if isinstance(row, RowError):
                raise row
            if not isinstance(row, Mapping):
                raise RowError("row", row, "is not an object with keys")
            yield from _items(row, origin, row_of, pictures, part)
        except RowError as error:
            yield BadSample(origin, error.field, error.value, error.reason)


def _items(row: Mapping[str, Any], origin: str, benchmark: Benchmark, pictures: Pictures, part: str) -> Iterator[Item]:
    names = benchmark.columns
    answers = _answers(row, benchmark)
    image = _image(row, benchmark, pictures)
    parts = [part]
    if cell := _cell(row, names.part):
        parts = [names.part_of.get(each.strip(), each.strip()) for each in str(cell[1]).split(",")]
    elif benchmark.part_of_answers:
        parts = [benchmark.part_of_answers(answers)]
    key = _cell(row, names.id)
    question = _cell(row, names.question)
    if names.question and question is None:
        raise RowError(names.question[0], sorted(map(str, row)), "are the row's keys; the question is missing")
    for each in parts:
        yield Item(
            id=str(key[1]) if key else origin.rpartition("/")[2],
            question=str(question[1]).strip() if question else "",
            answers=answers,
            image=image,
            part=each,
            cluster=_cluster(row, names, image),
            origin=origin,
        )


def _cluster(row: Mapping[str, Any], names: Columns, image: ImageRef) -> str:
    """What the questions about one picture have in common: a cell that says so, else the picture's name."""
    cell = _cell(row, (*names.cluster, *names.image))
    return str(cell[1]) if cell and isinstance(cell[1], (str, int)) else Path(image.path).name


def _cell(row: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any] | None:
    """Name and value of the first of `names` that the row has a value for."""
    return next(((name, row[name]) for name in names if row.get(name) not in (None, "")), None)


def _answers(row: Mapping[str, Any], benchmark: Benchmark) -> tuple[str, ...]:
    """The reference answers, the most frequent first; equal ones stay (TextVQA has those of ten people)."""
    cell = _cell(row, benchmark.columns.answers)
    if cell is None:
        field = benchmark.columns.answers[0]
        raise RowError(
            field, sorted(map(str, row)), "are the row's keys; it has no answer (test splits often lack them)"
        )
    name, value = cell
    listed = list(value) if isinstance(value, (list, tuple)) else [value]
    known = benchmark.columns.answer_of
    found = [known.get(str(each).strip().lower(), str(each).strip()) for each in listed]
    found = sorted(found, key=lambda each: (not each, -found.count(each)))
    if not found or not found[0]:
        raise RowError(name, value, "holds no answer")
    if benchmark.options and found[0].lower() not in [option.lower() for option in benchmark.options]:
        raise RowError(name, found[0], f"is none of the answers {', '.join(benchmark.options[:10])}")
    return tuple(found)


def _image(row: Mapping[str, Any], benchmark: Benchmark, pictures: Pictures) -> ImageRef:
    cell = _cell(row, benchmark.columns.image)
    if cell is None:
        field = benchmark.columns.image[0]
        raise RowError(field, sorted(map(str, row)), "are the row's keys; it names no picture")
    name, value = cell
    if isinstance(value, ImageRef):
        return value
    if not isinstance(value, (str, int)):
        raise RowError(name, value, "is neither a picture nor the name of one")
    file = benchmark.columns.image_name.format(value)
    return pictures.find(file if Path(file).suffix else f"{file}.jpg")
