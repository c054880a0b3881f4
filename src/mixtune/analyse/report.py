"""Write the report: one HTML file that needs nothing else, its numbers as JSON, and a still picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixtune.analyse.headline import Comparison, answer_sentences, compare_splits
from mixtune.analyse.page import render
from mixtune.analyse.palette import UNTUNED_LABELS
from mixtune.analyse.poster import write_poster
from mixtune.analyse.runs import Run, RunFolders, find_runs, read_runs
from mixtune.analyse.selections import Usage, read_usage, usage_numbers
from mixtune.analyse.settings import ReportSettings
from mixtune.config import write_atomic
from mixtune.evaluate.store import write_json


def write_report(
    runs: str | Path | Mapping[str, RunFolders], out: str | Path, settings: ReportSettings | None = None
) -> Path:
    """Write `out` (HTML) and, beside it under the same name, ``.json`` (all numbers) and ``.png`` (one picture).

    `runs` is a run folder (see `find_runs`) or the folders of each model by label. Returns the path of the page. Each
    file appears complete or not at all. Raises ValueError naming what is missing, unreadable or unknown.
    """
    settings, out = settings or ReportSettings(), Path(out)
    if out.is_dir():
        raise ValueError(f"--out: '{out}' is a folder; name the page, e.g. {out / 'report.html'}")
    folders = find_runs(runs) if isinstance(runs, (str, Path)) else dict(runs)
    subject, baseline = choose_pair(folders, settings)
    found = read_runs(folders, subject, baseline)
    check_way(found, settings.way)
    comparisons = compare_splits(found[0], found[1], settings.way) if subject != baseline else []
    usage = next((read_usage(run.usage) for run in found if run.usage), None)
    answer = answer_sentences(found, comparisons, settings.way)
    page = render(found, settings, answer=answer, usage=usage)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        out.with_suffix(".json"),
        numbers(found, settings, answer=answer, comparisons=comparisons, usage=usage),
    )
    write_poster(found, settings.way, out.with_suffix(".png"), settings.title)
    write_atomic(out, page)
    return out


def choose_pair(folders: Mapping[str, RunFolders], settings: ReportSettings) -> tuple[str, str]:
    """Labels of subject and baseline: those of the settings, else a mixture (or any tuned model) against
    "lora" (or any other tuned model, or the untuned one); the same label twice if there is only one model.
    """
    tuned = sorted((label for label in folders if label not in UNTUNED_LABELS), key=lambda label: label == "lora")
    subject = settings.subject or (tuned or list(folders))[0]
    others = [label for label in [*sorted(tuned, key=lambda label: label != "lora"), *folders] if label != subject]
    return subject, settings.baseline or (others or [subject])[0]


def check_way(runs: Sequence[Run], way: str) -> None:
    """Raises ValueError naming the run that was not evaluated in the way the report is about."""
    for run in runs:
        if not any(task[way] for task in run.tasks.values()):
            raise ValueError(
                f"way: {run.label!r} has no {way!r} results (rows without `options` are not ranked); take the other way"
            )


def numbers(
    runs: Sequence[Run],
    settings: ReportSettings,
    *,
    answer: Sequence[str],
    comparisons: Sequence[Comparison],
    usage: Usage | None,
) -> dict[str, Any]:
    """Content of report.json: the answer, every comparison, and per model its results, budget and training log."""
    return {
        "title": settings.title,
        "way": settings.way,
        "answer": list(answer),
        "comparisons": [comparison.as_dict() for comparison in comparisons],
        "models": {
            run.label: {
                "results": run.results,
                "budget": run.budget,
                "log": list(run.log),
                "recipe": run.recipe,
            }
            for run in runs
        },
        "routing": usage_numbers(usage) if usage else None,
    }
