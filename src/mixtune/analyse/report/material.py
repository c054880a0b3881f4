"""What a report is made from: whatever lies in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mixtune.analyse.palette import UNTUNED_LABELS
from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.settings import ReportSettings
from mixtune.analyse.runs import EVALUATION, Run, RunFolders, read_runs, run_folders
from mixtune.analyse.selections import Usage, read_usage
from mixtune.config import portable
from mixtune.evaluate.store import RESULTS

COMPARISON, INTERFERENCE, ROUTING = "comparison.json", "interference.json", "routing.json"
FORMATS = {COMPARISON: 1, INTERFERENCE: "mixtune-interference/1", ROUTING: "mixtune-routing/1"}


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything a page may show. `runs` are evaluated models, subject and baseline first; `interference` and `routing`
    are the contents of such files by the name of the folder each lies in.
    """

    settings: ReportSettings
    runs: Sequence[Run] = ()
    comparison: Compared | None = None
    interference: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    routing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def usage(self) -> Usage | None:
        """Routing of the first evaluated mixture, tasks by domain and name: seen ones beside their unseen kin."""
        path = next((run.usage for run in self.runs if run.usage), None)
        if path is None:
            return None
        tasks = self.runs[0].tasks
        return read_usage(path).ordered(sorted(tasks, key=lambda task: (tasks[task]["domain"], task)))


def find_material(folder: Path, settings: ReportSettings) -> Material:
    """Read the folder: evaluated models in ``*/evaluation``, a comparison in it (or the only one below it), and every
    interference.json and routing.json below it. Raises ValueError naming what is missing, broken or ambiguous.
    """
    runs = run_folders(folder)
    paths = {name: sorted(folder.rglob(name)) for name in FORMATS}
    # A file of that name beside the results of an evaluation is two evaluations' (`mixtune evaluate --against`).
    paths[COMPARISON] = [path for path in paths[COMPARISON] if not (path.parent / RESULTS).exists()]
    if not runs and not any(paths.values()):
        raise ValueError(
            f"{folder}: no */{EVALUATION}/{RESULTS}, {COMPARISON}, {INTERFERENCE} or {ROUTING} in it; "
            "evaluate at least one model first"
        )
    chosen = [folder / COMPARISON] if (folder / COMPARISON) in paths[COMPARISON] else paths[COMPARISON]
    if len(chosen) > 1:
        commands = "".join(f"\n  mixtune report {path.parent}" for path in chosen)
        raise ValueError(
            f"{folder}: {len(chosen)} comparisons lie below it, and a report is about one of them:{commands}"
        )
    return Material(
        settings=settings,
        runs=chosen_runs(runs, settings) if runs else (),
        comparison=read_comparison(chosen[0]) if chosen else None,
        interference={_name(path, folder): read_json(path) for path in paths[INTERFERENCE]},
        routing={_name(path, folder): read_json(path) for path in paths[ROUTING]},
    )


def read_comparison(path: Path) -> Compared | None:
    """A comparison with results; None while none of its arms has finished a seed."""
    found = Compared(content=read_json(path), folder=path.parent)
    return found if found.entries else None


def read_json(path: Path) -> Any:
    """A file of one of FORMATS, without paths of a machine. Raises ValueError naming it if it is not JSON or of another
    format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMATS[path.name]:
        raise ValueError(f"{path}: format: {found!r}; this version reads {FORMATS[path.name]!r}")
    return portable(content)


def _name(path: Path, folder: Path) -> str:
    """How the page calls an analysis: its folder seen from the report's, without the analysis' own name."""
    place = path.parent.relative_to(folder)
    parts = place.parts[:-1] if place.name == path.stem else place.parts
    return "/".join(parts)


def chosen_runs(folders: Mapping[str, RunFolders], settings: ReportSettings) -> list[Run]:
    """All models, subject and baseline first. Raises ValueError for an unknown name, or for a model that was not
    evaluated in the way the report is about.
    """
    subject, baseline = choose_pair(folders, settings)
    found = read_runs(folders, subject, baseline)
    for run in found:
        if not any(task[settings.way] for task in run.tasks.values()):
            raise ValueError(
                f"way: {run.label!r} has no {settings.way!r} results (rows without `options` are not ranked); "
                "take the other way"
            )
    return found


def choose_pair(folders: Mapping[str, RunFolders], settings: ReportSettings) -> tuple[str, str]:
    """Labels of subject and baseline: those of the settings, else a mixture (or any tuned model) against
    "lora" (or any other tuned model, or the untuned one); the same label twice if there is only one model.
    """
    tuned = sorted((label for label in folders if label not in UNTUNED_LABELS), key=lambda label: label == "lora")
    subject = settings.subject or (tuned or list(folders))[0]
    others = [label for label in [*sorted(tuned, key=lambda label: label != "lora"), *folders] if label != subject]
    return subject, settings.baseline or (others or [subject])[0]
