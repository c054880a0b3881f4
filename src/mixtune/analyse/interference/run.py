"""Measure how tasks help and hurt each other, told as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixtune.analyse.interference.banks import AdaptedLinear, adapted_linears, choose, chosen_depths
from mixtune.analyse.interference.measuring import Measurer
from mixtune.analyse.interference.pictures import write_picture
from mixtune.analyse.interference.planning import Plan, fingerprint, make_plan
from mixtune.analyse.interference.results import FILE, FORMAT, groups_and_banks, summaries
from mixtune.analyse.interference.settings import InterferenceSettings
from mixtune.analyse.interference.store import PartStore, remove_parts
from mixtune.analyse.subject import AnalysisRequest, Subject, load_subject, surroundings
from mixtune.config import write_atomic
from mixtune.data import Collator, Encoder
from mixtune.evaluate.progress import sample_progress
from mixtune.training.parts import RESULT_CARD

MEASURED = (
    "fingerprint", "settings", "seconds", "samples", "samples_per_second", "tasks", "summary", "groups", "banks",
)  # fmt: skip


def analyse_interference(
    request: AnalysisRequest,
    settings: InterferenceSettings,
    out: Path,
    say: Callable[[str], None] = print,
    *,
    keep_parts: bool = False,
) -> Path:
    """Measure, and write interference.json and .png into `out`; returns the JSON's path.

    An interrupted analysis goes on where it stopped, a finished one is not repeated. Its parts are deleted once both
    files are written, unless `keep_parts` wants them for other statistics. Raises ValueError naming the model, adapter,
    layer, linear, task, file or sample that does not fit.
    """
    subject = load_subject(request)
    found = measure(subject, settings, out, say)
    cost = cost_ratio(request.adapter, found["seconds"], found["samples"])
    content = {"format": FORMAT, **request.describe(), **surroundings(), "cost_ratio": cost, **found}
    write_atomic(out / FILE, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    write_picture(content, out)
    if not keep_parts:
        remove_parts(out)
    return out / FILE


def finished(path: Path, mark: str, settings: InterferenceSettings) -> dict[str, Any] | None:
    """What `measure` wrote into interference.json of the same fingerprint and settings; None if it holds another."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    wanted = {"format": FORMAT, "fingerprint": mark, "settings": settings.model_dump(mode="json")}
    same = isinstance(content, dict) and {key: content.get(key) for key in wanted} == wanted
    return {key: content[key] for key in MEASURED} if same else None


def measure(
    subject: Subject, settings: InterferenceSettings, out: Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """The measured part of interference.json: tasks, groups, banks, summary, fingerprint and time."""
    adapted = adapted_linears(subject.model)
    linears = choose(adapted, settings.layers, settings.linears)
    depths = {each.depth for each in linears}
    layers = [each for each in chosen_depths(adapted, settings.layers) if each[0] in depths]
    plan = make_plan(subject.tasks, settings)
    for line in plan_lines(subject, plan, linears, layers, settings):
        say(line)
    mark = fingerprint(subject, linears, settings)
    if before := finished(out / FILE, mark, settings):
        say(f"{out / FILE} holds this measurement already; remove it to measure again")
        return before
    store = PartStore(out, mark, say)
    if (out / FILE).exists():
        say(f"replaces   {out / FILE}, which is of other weights, samples or settings; another --out keeps it")
    parts = make_parts(subject, plan, linears, settings, store)
    started, names = time.monotonic(), [task.name for task in subject.tasks]
    measured = groups_and_banks(parts, linears, layers, names, settings)
    seconds = store.seconds() + time.monotonic() - started
    tasks = [
        {
            **task.describe(),
            "directions": plan.count(plan.directions, number),
            "measured": plan.count(plan.measured, number),
        }
        for number, task in enumerate(subject.tasks)
    ]
    return {
        "fingerprint": mark,
        "settings": settings.model_dump(),
        "seconds": round(seconds, 2),
        "samples": plan.samples,
        "samples_per_second": round(plan.samples / seconds, 2),
        "tasks": tasks,
        "summary": summaries(measured["groups"], names),
        **measured,
    }


def make_parts(
    subject: Subject, plan: Plan, linears: list[AdaptedLinear], settings: InterferenceSettings, store: PartStore
) -> list[Path]:
    """The files of all measured parts, made where they are missing, with a progress bar."""
    collator = Collator(
        Encoder(subject.processor, settings.max_length), [task.name for task in subject.tasks], padding_side="right"
    )
    with sample_progress() as progress:
        bar = progress.add_task("gradients", total=plan.samples)
        measurer = Measurer(
            subject.model, collator, linears, len(subject.tasks), settings, lambda count: progress.advance(bar, count)
        )
        blocks, parts = [], []
        for number, units in enumerate(plan.directions):
            name = f"directions-{number:03}"
            skipped = sum(len(unit.samples) for unit in units) if store.has(name) else 0
            blocks.append(store.made(name, lambda units=units: measurer.direction_block(units)))  # type: ignore[misc]
            progress.advance(bar, skipped)
        for number, units in enumerate(plan.measured):
            name = f"measured-{number:05}"
            skipped = sum(len(unit.samples) for unit in units) if store.has(name) else 0
            parts.append(store.made(name, lambda units=units: measurer.measured_part(units, blocks)))  # type: ignore[misc]
            progress.advance(bar, skipped)
    return parts


def plan_lines(
    subject: Subject,
    plan: Plan,
    linears: list[AdaptedLinear],
    layers: list[tuple[int, str]],
    settings: InterferenceSettings,
) -> list[str]:
    """What is about to be done: tasks, samples, banks, memory."""
    named = ", ".join(name if name.startswith("layer") else f"{name} (layer {depth})" for depth, name in layers)
    numbers = sum(each.bank_a.numel() + each.bank_b.numel() for each in linears)
    directions = 2 * len(subject.tasks) * settings.blocks * numbers * 4
    lines = [
        f"tasks      {len(subject.tasks)}, {plan.samples:,} samples: one half gives directions, the other is measured",
        f"banks      A and B of {len(linears)} linears: {named}",
        f"memory     {directions / 2**20:,.0f} MiB of directions, whatever the number of samples",
    ]
    if settings.lookahead:
        measured = sum(len(unit.samples) for part in plan.measured for unit in part)
        runs = measured * 2 * len(linears) * len(subject.tasks) * settings.blocks
        lines.append(
            f"lookahead  step {settings.lookahead:g}: {runs:,} forwards of one sample, beside {plan.samples:,}"
        )
    return lines


def cost_ratio(adapter: Path | None, seconds: float, samples: int) -> float | None:
    """Seconds a sample of this analysis over those of the adapter's own training run; None without its record."""
    try:
        card = json.loads((Path(adapter) / RESULT_CARD).read_text(encoding="utf-8"))  # type: ignore[arg-type]
        trained = card["metrics"]["seconds"] / card["metrics"]["samples"]
    except (OSError, TypeError, KeyError, ValueError, ZeroDivisionError):
        return None
    return round(seconds / samples / trained, 3)
