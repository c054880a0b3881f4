"""Samples from files and datasets, checked before a run starts: nothing is skipped without being listed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mixtune.config import DataSettings, SourceSettings, expand_path, near
from mixtune.data import tables
from mixtune.data.checks import check_bad, check_images
from mixtune.data.files import Row, read_rows
from mixtune.data.formats import RowContext, RowError, sample_from_row
from mixtune.data.sample import BadSample, DataError, ImageRef, Sample

FILES = (".json", ".jsonl", ".ndjson")


def read_samples(settings: DataSettings) -> tuple[list[Sample], list[BadSample]]:
    """Read all sources in order and check every sample: its JSON, turns, placeholders, task label and images.

    Returns the sound samples (of every task the first `settings.max_per_task`, if that is set) and, in the order of the
    sources, those left out. DataError when more than `settings.max_bad` are unreadable (it lists them), when a source
    is missing, or when nothing is left of one.
    """
    samples: list[Sample] = []
    bad: list[BadSample] = []
    empty: list[str] = []
    for number, source in enumerate(settings.sources):
        read, unread = read_source(source)
        good, broken = check_images(read)
        bad += unread + broken
        samples += good
        if not good:
            empty.append(f"{source.path}: data.sources.{number}.path: holds no readable sample")
    check_bad(bad, settings.max_bad)
    if empty:
        raise DataError("\n".join(empty))
    return (samples if settings.max_per_task is None else _first_of_each(samples, settings.max_per_task)), bad


def _first_of_each(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first `count` samples of every task, in their order."""
    taken: Counter[str] = Counter()
    kept = []
    for sample in samples:
        taken[sample.task] += 1
        if taken[sample.task] <= count:
            kept.append(sample)
    return kept


def read_source(source: SourceSettings) -> tuple[list[Sample], list[BadSample]]:
    """Samples of one source, images not looked at yet, and the rows that are none."""
    samples, bad = [], []
    rows, context = _open_source(source)
    for number, (origin, row) in enumerate(rows):
        if source.max_samples is not None and number >= source.max_samples:
            break
        try:
            if isinstance(row, RowError):
                raise row
            samples.append(sample_from_row(row, origin, context))
        except RowError as error:
            bad.append(BadSample(origin, error.field, error.value, error.reason))
    return samples, bad


def _open_source(source: SourceSettings) -> tuple[Iterator[Row], RowContext]:
    path = Path(expand_path(source.path))
    looks_like_file = path.suffix.lower() in FILES and source.format != "datasets"
    if looks_like_file or path.is_file():
        _check_exists(path)
        folder = expand_path(source.image_folder) if source.image_folder else str(path.parent)
        find, rows, name = partial(find_file, folder=folder), read_rows(path), path.stem
    else:
        table = tables.open_table(source)
        folder = expand_path(source.image_folder) if source.image_folder else str(path)
        find, rows, name = partial(find_file, folder=folder), tables.table_rows(table, source.path), path.name
    return rows, RowContext(format=source.format, task=source.task or name, find_image=find)


def _check_exists(path: Path) -> None:
    if path.is_file():
        return
    if path.exists():
        raise DataError(f"{path}: is a folder, not a file of samples")
    names = os.listdir(path.parent) if path.parent.is_dir() else []
    hint = near(path.name, [name for name in names if name.lower().endswith(FILES)])
    missing_folder = "" if path.parent.is_dir() else f"; there is no folder '{path.parent}'"
    raise DataError(f"{path}: there is no such file{hint}{missing_folder}")


def find_file(entry: Any, field: str, folder: str) -> ImageRef:
    """An image entry as a reference: a path (relative to `folder`, or absolute), or a cell of a dataset."""
    if isinstance(entry, tables.Cell):
        return entry.reference() if entry.in_table else find_file(entry.path, field, folder)
    path = entry.get("path") if isinstance(entry, dict) else entry
    if not isinstance(path, str) or not path:
        raise RowError(field, entry, "is no path of an image")
    if path.startswith(("http://", "https://", "data:")):
        raise RowError(field, path, "is an address; mixtune reads image files only, so download it first")
    return ImageRef(os.path.normpath(os.path.join(folder, expand_path(path.removeprefix("file://")))))
