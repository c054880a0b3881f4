"""Evaluate a model: one shared prompt pass a batch, options ranked
and answers decoded from it, every sample on disk.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from mixtune.data.collate import Encoder
from mixtune.data.sample import ImageRef, Sample
from mixtune.evaluate.answering import Answerer
from mixtune.evaluate.forward import Model, precise_head
from mixtune.evaluate.progress import sample_progress
from mixtune.evaluate.questions import Questioner, check_questions, prompt_of, target_of
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.evaluate.store import RESULTS, SampleStore, weights_digest, write_json
from mixtune.evaluate.summary import summarise_splits, summarise_tasks
from mixtune.evaluate.usage import USAGE, save_usage

PACKAGES = ("mixtune", "torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """A finished evaluation: its `folder`, the content of results.json and the rows of samples.jsonl."""

    folder: Path
    results: dict[str, Any]
    rows: list[dict[str, Any]]


def evaluate(
    model: Model,
    processor: Any,
    samples: Sequence[Sample],
    settings: EvaluateSettings,
    out_dir: str | Path,
    groups: Mapping[str, TaskGroup] | None = None,
    about: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """Answer every sample greedily and by ranking its options, and count.

    Writes into `out_dir`: ``samples.jsonl`` (a line a sample, as soon as its batch is done), ``results.json``
    (at the end, atomically) and, for a mixture, ``usage.safetensors``. Called again after a kill it goes on
    where it stopped; called again with other settings, samples or weights it starts anew. `groups` says which
    domain and split a task belongs to; `about` (say, names of model and adapter) is copied into results.json.
    The model's mode is restored. Raises ValueError listing samples that cannot be scored, DataError for those
    that cannot be read.
    """
    check_questions(samples)
    groups = dict(groups or {})
    about = {"model": None, "adapter": None, **(about or {})}
    store = SampleStore(out_dir, fingerprint(model, samples, settings, groups), {"settings": settings.model_dump()})
    answerer = Answerer(model, Questioner(Encoder(processor, settings.max_length)), settings, groups)
    seconds = _answer_all(answerer, samples, store, settings.batch_size)
    rows = [store.done[sample.id] for sample in samples]
    save_usage(rows, store.header.get("layers", []), store.folder / USAGE)
    tasks = summarise_tasks(rows, settings)
    results = {
        **about,
        "versions": package_versions(),
        "settings": settings.model_dump(),
        "n": len(rows),
        "seconds": round(seconds, 2),
        "tasks": tasks,
        "summary": summarise_splits(rows, tasks, settings),
    }
    write_json(store.folder / RESULTS, results)
    return EvaluationResult(folder=store.folder, results=results, rows=rows)


def fingerprint(
    model: Model, samples: Sequence[Sample], settings: EvaluateSettings, groups: Mapping[str, TaskGroup]
) -> str:
    """Hash of everything a row depends on: weights, samples, groups and the settings that change answers."""
    asked = [
        [s.id, s.task, prompt_of(s), target_of(s), list(s.options), [_picture(image) for image in s.images]]
        for s in samples
    ]
    kept = settings.model_dump(exclude={"confidence"})
    named = {task: group.model_dump() for task, group in sorted(groups.items())}
    text = json.dumps([weights_digest(model), kept, named, asked], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _picture(image: ImageRef) -> list[Any]:
    """What stands for a picture in the fingerprint: its path, and size and time of change where it is a file."""
    path = Path(str(image))
    facts = path.stat() if path.is_file() else None
    return [str(image), *((facts.st_size, facts.st_mtime_ns) if facts else ())]


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on; those not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _answer_all(answerer: Answerer, samples: Sequence[Sample], store: SampleStore, batch_size: int) -> float:
    """Answer what the store lacks, prompts of like length together;
    seconds this call and the interrupted ones took.
    """
    todo = [sample for sample in samples if sample.id not in store.done]
    todo.sort(key=lambda sample: (len(sample.images), len(prompt_of(sample))))
    spent, started = float(store.header.get("seconds", 0.0)), time.monotonic()
    with evaluating(answerer.model), sample_progress() as progress:
        bar = progress.add_task("evaluating", total=len(samples), completed=len(samples) - len(todo))
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            rows = answerer.rows(batch)
            store.note(layers=answerer.layers, seconds=spent + time.monotonic() - started)
            store.append(rows)
            progress.advance(bar, len(batch))
    return float(store.header.get("seconds", spent))


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Inference and eval mode with a precise head; training mode comes back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), precise_head(model):
            yield
    finally:
        model.train(was_training)
