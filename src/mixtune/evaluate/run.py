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
from pathlib import Path
from typing import Any

import torch

from mixtune.config import movable_path
from mixtune.data.collate import Encoder
from mixtune.data.sample import ImageRef, Sample
from mixtune.evaluate.answering import Answerer, token_limit
from mixtune.evaluate.benchmarks.results import summarise_benchmarks
from mixtune.evaluate.benchmarks.samples import BenchmarkSample, benchmark_facts, check_pairs, groups_of, rows_asked
from mixtune.evaluate.forward import Model, precise_head
from mixtune.evaluate.progress import sample_progress
from mixtune.evaluate.questions import Questioner, check_questions, prompt_of, target_of
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.evaluate.store import RESULTS, SampleStore, weights_digest, write_json
from mixtune.evaluate.summary import summarise_splits, summarise_tasks
from mixtune.evaluate.usage import USAGE, save_usage
from mixtune.training.environment import versions


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
    where it stopped; answers of other settings, samples or weights in `out_dir` are an error that says what differs,
    or discarded with ``settings.resume`` off. `groups` says which domain and split a task belongs to; `about` (say,
    names of model and adapter) is copied into results.json. Samples of benchmarks are scored by their protocol; their
    numbers stand under ``benchmarks``. The model's mode is restored. Raises ValueError listing samples that cannot be
    scored, DataError for those that cannot be read.
    """
    check_questions(samples)
    check_pairs(samples)
    groups = {**groups_of(samples), **(groups or {})}
    about = {"model": None, "adapter": None, **(about or {})}
    parts, shown = fingerprint_parts(model, samples, settings, groups), settings.model_dump(exclude={"resume"})
    store = SampleStore(out_dir, _digest(parts), {"settings": shown, "parts": parts}, resume=settings.resume)
    answerer = Answerer(model, Questioner(Encoder(processor, settings.max_length)), settings, groups)
    seconds = _answer_all(answerer, samples, store, settings.batch_size)
    rows = [store.done[sample.id] for sample in samples]
    save_usage(rows, store.header.get("layers", []), store.folder / USAGE)
    tasks = summarise_tasks(rows, settings)
    results = {
        **about,
        "versions": versions(),
        "settings": shown,
        "n": len(rows),
        "seconds": round(seconds, 2),
        "tasks": tasks,
        "summary": summarise_splits(rows, tasks, settings),
        **summarise_benchmarks(rows, rows_asked(samples), settings.confidence),
    }
    write_json(store.folder / RESULTS, results)
    return EvaluationResult(folder=store.folder, results=results, rows=rows)


def fingerprint(
    model: Model, samples: Sequence[Sample], settings: EvaluateSettings, groups: Mapping[str, TaskGroup]
) -> str:
    """Hash of everything a row depends on: weights, samples, groups and the settings that change answers."""
    return _digest(fingerprint_parts(model, samples, settings, groups))


def fingerprint_parts(
    model: Model, samples: Sequence[Sample], settings: EvaluateSettings, groups: Mapping[str, TaskGroup]
) -> dict[str, Any]:
    """What the fingerprint is of, by name: values of settings, digests of the rest.

    Not of ``max_length``: a longer prompt is an error, never cut, so that a run it stopped goes on with a larger one.
    """
    asked = [
        [s.id, s.task, prompt_of(s), target_of(s), list(s.options), [_picture(image) for image in s.images]]
        + ([benchmark_facts(s), s.row.max_new_tokens] if isinstance(s, BenchmarkSample) else [])
        for s in samples
    ]
    kept = settings.model_dump(mode="json", exclude={"confidence", "resume", "max_length"})
    named = {task: group.model_dump() for task, group in sorted(groups.items())}
    return {
        "weights": weights_digest(model),
        **{f"settings.{name}": value for name, value in kept.items()},
        "samples": f"{len(samples)} ({_digest(asked)})",
        "groups of tasks": _digest(named),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode("utf-8")).hexdigest()[:16]


def _picture(image: ImageRef) -> list[Any]:
    """What stands for a picture in the fingerprint: its path, its size where it is a file, and its time of change where
    mixtune did not draw it: what it drew is the same in every home.
    """
    path, name = Path(image.path), movable_path(image.path)
    if not path.is_file():
        return [name]
    facts = path.stat()
    return [name, facts.st_size, *([facts.st_mtime_ns] if name == image.path else [])]


def _answer_all(answerer: Answerer, samples: Sequence[Sample], store: SampleStore, batch_size: int) -> float:
    """Answer what the store lacks, answers and prompts of like length together;
    seconds this call and the interrupted ones took.
    """
    todo = [sample for sample in samples if sample.id not in store.done]
    limits = {sample.id: token_limit(sample, answerer.settings) for sample in todo}
    todo.sort(key=lambda sample: (limits[sample.id], len(sample.images), len(prompt_of(sample))))
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
