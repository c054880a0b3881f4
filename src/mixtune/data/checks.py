"""Checks before a run starts: images that are missing or broken, and the limit on samples left out."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mixtune.config import mixtune_home, near
from mixtune.data.progress import progress
from mixtune.data.sample import BadSample, DataError, ImageRef, Sample, load_image

SHOWN = 20
LARGEST_FOLDER = 2000
"""Near names are looked for in folders of at most so many files: in larger ones it would take long."""


def check_bad(bad: Sequence[BadSample], max_bad: int) -> None:
    """DataError when more than `max_bad` samples are unreadable: the count, and the first 20, one a line."""
    if len(bad) <= max_bad:
        return
    lines = [str(one) for one in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"and {len(bad) - SHOWN} more")
    head = f"{len(bad)} unreadable sample(s); data.max_bad (--max-bad) allows {max_bad}:"
    raise DataError("\n".join([head, *lines]))


def check_images(samples: Sequence[Sample]) -> tuple[list[Sample], list[BadSample]]:
    """Decode every image once; samples whose images are all sound, and the others as BadSample.

    Verdicts on files are kept in `mixtune_home()/checked.json` by path, size and time of change, so that
    the next run decodes only what is new or was changed.
    """
    refs = {ref.path: ref for sample in samples for ref in sample.images}
    verdicts = _verdicts(refs)
    good, bad = [], []
    for sample in samples:
        broken = [(n, ref) for n, ref in enumerate(sample.images) if verdicts[ref.path]]
        if not broken:
            good.append(sample)
            continue
        number, ref = broken[0]
        bad.append(BadSample(sample.origin, f"images[{number}]", repr(ref.path), verdicts[ref.path]))
    return good, bad


def _verdicts(refs: dict[str, ImageRef]) -> dict[str, str]:
    """For each path what is wrong with the image, empty where nothing is."""
    store = mixtune_home() / "checked.json"
    known = _load(store)
    marks = {path: _mark(path) for path, ref in refs.items() if ref.read is None}
    missing = [path for path, mark in marks.items() if not mark]
    found = {path: "is missing" + (_near_file(path) if at < SHOWN else "") for at, path in enumerate(missing)}
    keys = {path: os.path.abspath(path) for path in marks}
    same = [path for path, mark in marks.items() if mark and known.get(keys[path], [""])[0] == mark]
    found.update({path: known[keys[path]][1] for path in same})
    fresh = [ref for path, ref in refs.items() if path not in found]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        verdicts = progress(pool.map(_verdict, fresh), "checking images", len(fresh))
        found.update({ref.path: verdict for ref, verdict in zip(fresh, verdicts, strict=True)})
    learnt = {keys[ref.path]: [marks[ref.path], found[ref.path]] for ref in fresh if ref.path in marks}
    if learnt:
        _save(store, {**_load(store), **learnt})
    return found


def _mark(path: str) -> str:
    """Size and time of change of a file; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _verdict(ref: ImageRef) -> str:
    try:
        load_image(ref)
    except DataError as error:
        return "cannot be decoded: " + str(error.__cause__ or error)
    return ""


def _near_file(path: str) -> str:
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        return f"; there is no folder '{folder}'"
    names = os.listdir(folder or ".")
    hint = near(name, names) if len(names) <= LARGEST_FOLDER else ""
    return hint if "did you mean" in hint else ""


def _load(store: Path) -> dict[str, list[str]]:
    """Kept verdicts; none where the file is missing or damaged, since they can be found again."""
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _save(store: Path, verdicts: dict[str, list[str]]) -> None:
    """Write beside the file and rename over it: a reader sees the old verdicts or the new ones."""
    store.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=store.parent, prefix=store.name)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(verdicts, stream, ensure_ascii=False)
    os.replace(name, store)
