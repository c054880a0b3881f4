"""Write the report: one HTML file that needs nothing else, its numbers as JSON, and still pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixtune.analyse.interference.pictures import poster as interference_poster
from mixtune.analyse.report.answers import judge_by, open_with, run_comparisons
from mixtune.analyse.report.headline import Comparison
from mixtune.analyse.report.material import FORMATS, Material, chosen_runs, find_material
from mixtune.analyse.report.page import render
from mixtune.analyse.report.poster import poster as run_poster
from mixtune.analyse.report.settings import ReportSettings
from mixtune.analyse.report.standing import poster as arm_poster
from mixtune.analyse.report.words import Said
from mixtune.analyse.routing.pictures import poster as routing_poster
from mixtune.analyse.runs import RunFolders
from mixtune.analyse.selections import usage_numbers
from mixtune.analyse.still import save_figure
from mixtune.config import portable, write_atomic


def write_report(
    runs: str | Path | Mapping[str, RunFolders], out: str | Path, settings: ReportSettings | None = None
) -> Path:
    """Write `out` (HTML) and, beside it under the same name, ``.json`` (all numbers) and ``.png`` (one picture).

    `runs` is a folder (see `find_material`) or the folders of each evaluated model by label. Where the folder has more
    to draw than one picture, the others are ``NAME-interference.png`` and the like. Returns the path of the page. Each
    file appears complete or not at all. Raises ValueError naming what is missing, unreadable or unknown.
    """
    settings, out = settings or ReportSettings(), Path(out)
    settings = settings.model_copy(update={"command": portable(settings.command)})
    if out.is_dir():
        raise ValueError(f"--out: '{out}' is a folder; name the page, e.g. {out / 'report.html'}")
    if out.with_suffix(".json").name in FORMATS:
        raise ValueError(
            f"--out: '{out}' would write its numbers over a {out.with_suffix('.json').name}; name it otherwise"
        )
    if isinstance(runs, (str, Path)):
        material = find_material(Path(runs), settings)
    else:
        material = Material(settings=settings, runs=chosen_runs(dict(runs), settings))
    if not settings.title:
        settings = settings.model_copy(update={"title": title_of(material)})
        material = replace(material, settings=settings)
    if not (material.runs or material.comparison or material.interference or material.routing):
        raise ValueError(f"{runs}: its comparison has no finished arm yet; run the same `mixtune compare` again")
    comparisons = run_comparisons(material)
    answer, scale = open_with(material, comparisons), judge_by(material)
    page = render(material, answer=answer, scale=scale)
    out.parent.mkdir(parents=True, exist_ok=True)
    content = numbers(material, answer=answer, scale=scale, comparisons=comparisons)
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))  # half of what lines take
    write_atomic(out.with_suffix(".json"), text + "\n")
    write_stills(material, out)
    write_atomic(out, page)
    return out


def title_of(material: Material) -> str:
    """The question that the most telling part of a report answers."""
    titles = (
        (material.comparison, "Do the tasks fight, and does a mixture help?"),
        (material.runs, "Tuned on many tasks at once"),
        (material.interference, "Do the tasks fight?"),
        (material.routing, "What do the routers choose?"),
    )
    return next((title for part, title in titles if part), "")


def write_stills(material: Material, out: Path) -> None:
    """One picture of each kind for which there are data; the first is named as the page, and the others that are of an
    analysis have all its numbers beside them.
    """
    drawn: dict[str, Any] = {}
    measured: dict[str, Mapping[str, Any]] = {}
    if material.comparison:
        drawn["comparison"] = arm_poster(material.comparison, material.settings.title)
    if material.runs:
        drawn["evaluation"] = run_poster(material.runs, material.settings.way, material.settings.title)
    for name, contents, poster in (
        ("interference", material.interference, interference_poster),
        ("routing", material.routing, routing_poster),
    ):
        for label, content in contents.items():
            place = f"-{label.replace('/', '-')}" if len(contents) > 1 and label else ""
            drawn[name + place], measured[name + place] = poster(dict(content)), content
    for number, (name, figure) in enumerate(drawn.items()):
        path = out.with_name(f"{out.stem}-{name}.png") if number else out.with_suffix(".png")
        save_figure(figure, path)
        if number and name in measured:
            text = json.dumps(measured[name], ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            write_atomic(path.with_suffix(".json"), text + "\n")


def numbers(
    material: Material, *, answer: Sequence[Said], scale: Sequence[str], comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    """Content of the page's JSON: the words, every comparison, and of each model its results, budget and training log;
    of the analyses what the page prints as words and tables (their own files, or those beside their pictures, have the
    rest).
    """
    usage = material.usage
    return {
        "title": material.settings.title,
        "way": material.settings.way,
        "answer": [said.text for said in answer],
        "scale": list(scale),
        "comparisons": [comparison.as_dict() for comparison in comparisons],
        "models": {
            run.label: {"results": run.results, "budget": run.budget, "log": list(run.log), "recipe": run.recipe}
            for run in material.runs
        },
        "routing": usage_numbers(usage) if usage else None,
        "comparison": material.comparison.content if material.comparison else None,
        "analyses": {
            "interference": {label: _kept(content, ("summary",)) for label, content in material.interference.items()},
            "routing": {label: _kept(content, ("summary", "purity")) for label, content in material.routing.items()},
        },
    }


def _kept(content: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: content[name] for name in ("model", "adapter", "preset", "data", "settings", *names)}
