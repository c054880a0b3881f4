"""The pocket suite's rows of the table of benchmarks, and `mixtune evaluate` of the pocket model or any other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from mixtune.config import DataSettings, ModelSettings, SourceSettings
from mixtune.data import Sample, read_samples
from mixtune.evaluate.asking import EvaluationRequest, questions
from mixtune.evaluate.benchmarks.registry import BENCHMARKS, OFFICIAL
from mixtune.evaluate.benchmarks.table import Benchmark, Drawn, Protocol
from mixtune.evaluate.metrics import RANKED, task_numbers
from mixtune.evaluate.preflight import check_adapter, check_writable
from mixtune.evaluate.run import EvaluationResult, evaluate
from mixtune.evaluate.scoring.answers import score_exact
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.evaluate.store import LEFT_OUT, write_left_out
from mixtune.pocket.data import MANIFEST
from mixtune.pocket.prepare import MODEL, NATURAL, SPLITS, mix_file, prepare_mix, prepare_pocket
from mixtune.training.loading import load_model, placed
from mixtune.training.whole import load_tuned

SUITE = "pocket"
TESTS = ("test_seen", "test_unseen")


def evaluate_request(request: EvaluationRequest, folder: Path, *, batch_size: int) -> EvaluationResult:
    """Load, question and count; see ``mixtune.evaluate.run.evaluate`` for what is written into ``folder``.

    The model "pocket" is the pocket model, benchmarks are rows of `TABLE`. What was left out as unreadable is listed in
    ``left_out.jsonl``. Raises ValueError naming the model, adapter, file or sample that does not fit.
    """
    check_writable(folder)
    if request.adapter is not None:
        check_adapter(request.adapter)
    asked = questions(request, TABLE)
    for bad in asked.left_out:
        Console(stderr=True, soft_wrap=True, markup=False).print(f"left out {bad}")
    name = str(prepare_pocket().model) if request.model == MODEL else request.model
    model, processor = load_model(
        ModelSettings(name_or_path=name, dtype=request.dtype, attn_implementation=request.attn_implementation)
    )
    answering = placed(model if request.adapter is None else load_tuned(model, request.adapter))
    about: dict[str, Any] = {"model": request.model, "adapter": str(request.adapter) if request.adapter else None}
    listed = {"n": len(asked.left_out), "file": LEFT_OUT if asked.left_out else None}
    about |= {"asked": list(request.benchmarks), "left_out": listed}
    kept = request.model_dump(include={"rank", "greedy", "resume", "max_length"})
    settings = EvaluateSettings(batch_size=batch_size, **kept)
    result = evaluate(answering, processor, asked.samples, settings, folder, about=about)
    write_left_out(folder, asked.left_out)
    return result


def groups(data: Path) -> dict[str, TaskGroup]:
    """Domain and split ("seen" or "unseen") of every task, from the manifest of a data folder."""
    tasks = json.loads((data / MANIFEST).read_text(encoding="utf-8"))["tasks"]
    return {name: TaskGroup(domain=row["domain"], split=row["split"]) for name, row in tasks.items()}


def suite(data: Path, splits: Sequence[str] = TESTS) -> list[Sample]:
    """The samples of a data folder's splits; by default the test samples of all tasks, seen ones first."""
    sources = tuple(SourceSettings(path=str(data / f"{name}.jsonl"), format="messages") for name in splits)
    return read_samples(DataSettings(sources=sources))[0]


def draw_suite(rest: str) -> Drawn:
    """The demo's test samples, or those of the split that ``rest`` names ("/train"). ValueError names a near one."""
    split = rest.removeprefix("/")
    if split and (split not in SPLITS or rest[0] != "/"):
        return draw_mix(split)  # which says what it is like
    data = prepare_pocket(captions=split == "captions").data
    return Drawn(samples=suite(data, (split,) if split else TESTS), groups=groups(data))


def draw_mix(name: str) -> Drawn:
    """All test samples of a mix ("natural", "conflict-0.5"), or those of a split of it ("natural/validation").

    Raises ValueError naming the mix or split that there is none of, and one like it.
    """
    try:
        mix, split = mix_file(name)
    except ValueError as error:
        raise ValueError(f"benchmark '{SUITE}/{name}': {error}") from None
    tests = TESTS if mix == NATURAL else ("test",)
    data = prepare_mix(mix)
    return Drawn(samples=suite(data, (split,) if "/" in name else tests), groups=groups(data))


def _row(mix: str, title: str, size: int) -> Benchmark:
    return Benchmark(
        name=f"{SUITE}/{mix}" if mix else SUITE,
        title=title,
        size=size,
        obtain="drawn when first used; `mixtune pocket prepare` draws it beforehand",
        drawn=(lambda rest: draw_mix(f"{mix}{rest}")) if mix else draw_suite,
        max_new_tokens=8,
        protocols={
            OFFICIAL: Protocol(
                prompt="{question}",
                score=score_exact,
                numbers=task_numbers,
                ranked=partial(task_numbers, field="rank_correct", name=RANKED),
                headlines=("accuracy",),
                source="exact match after normalising case, spaces and final marks, mean over tasks; docs/pocket.md",
            )
        },
    )


POCKET = (
    _row("", "pocket suite (21 seen and 14 unseen tasks)", 1400),
    _row(NATURAL, "its natural mix (the same tasks, more questions)", 10500),
    _row("conflict", "its conflict mix (13 tasks; conflict-STRENGTH)", 3900),
    _row("conflict-many", "its large conflict mix (34 tasks; conflict-many-STRENGTH)", 10200),
)
TABLE: Mapping[str, Benchmark] = {**{row.name: row for row in POCKET}, **BENCHMARKS}
"""Every benchmark that `mixtune evaluate` knows."""
