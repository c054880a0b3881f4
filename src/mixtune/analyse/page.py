"""The report's page: everything the template prints, and the rendering itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from mixtune.analyse import figures
from mixtune.analyse.gallery import sample_cards
from mixtune.analyse.headline import floor_sentence
from mixtune.analyse.palette import DARK, LIGHT, UNTUNED, series_of
from mixtune.analyse.rows import accuracy_tables, budget_rows, split_order
from mixtune.analyse.runs import Run
from mixtune.analyse.selections import Usage, usage_numbers
from mixtune.analyse.settings import ReportSettings
from mixtune.analyse.sparks import HEIGHT, WIDTH, spark_cards

WAYS = {
    "rank": "the option with the highest likelihood counts as the answer",
    "greedy": "the freely generated answer must equal the right one",
}


def render(runs: Sequence[Run], settings: ReportSettings, *, answer: Sequence[str], usage: Usage | None) -> str:
    """The whole page as text: HTML with its style, its scripts (plotly.js once) and its pictures inside."""
    environment = Environment(
        loader=PackageLoader("mixtune.analyse"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    splits = split_order(runs)
    drawn = {f"accuracy-{split}": figures.accuracy_figure(runs, split, settings.way) for split in splits}
    usage = by_kinship(usage, runs[0]) if usage else None
    routing = _routing(drawn, usage, runs[0])
    curves = figures.curve_figure(runs)
    if curves:
        drawn["curves"] = curves
    return environment.get_template("report.html.j2").render(
        settings=settings,
        way=WAYS[settings.way],
        answer=answer,
        floors=[floor_sentence(runs, split, settings.way) for split in splits],
        models=[{"label": run.label, "series": style} for run, style in zip(runs, _styles(runs), strict=True)],
        splits=splits,
        tables=accuracy_tables(runs, settings.way),
        choices=[figures.ALL_TASKS, *figures.logged_tasks(runs)],
        has_curves=curves is not None,
        sparks=spark_cards(runs),
        spark={"width": WIDTH, "height": HEIGHT},
        routing=routing,
        budget=budget_rows(runs),
        cards=sample_cards(runs, settings.way, settings.samples),
        recipes=[{"label": run.label, "text": run.recipe} for run in runs if run.recipe],
        versions=runs[0].results.get("versions", {}),
        palette={"light": LIGHT, "dark": DARK, "untuned": UNTUNED},
        figures=script_json(drawn),
        usage=script_json(figures.usage_data(usage) if usage else None),
        plotly=Markup(get_plotlyjs()),
    )


def script_json(value: Any) -> Markup:
    """JSON for a script element: no text in it can close the element."""
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))


def _styles(runs: Sequence[Run]) -> list[str]:
    return list(series_of([run.label for run in runs]).values())


def by_kinship(usage: Usage, run: Run) -> Usage:
    """Tasks by domain and name, so that seen tasks stand beside their unseen kin."""
    return usage.ordered(sorted(run.tasks, key=lambda task: (run.tasks[task]["domain"], task)))


def _routing(drawn: dict[str, Any], usage: Usage | None, run: Run) -> dict[str, Any] | None:
    """Numbers of the routing section; adds its figures to `drawn`. Unseen tasks are printed in italics."""
    if usage is None:
        return None
    names = [task if run.tasks[task]["split"] == "seen" else f"<i>{escape(task)}</i>" for task in usage.tasks]
    drawn["places"] = figures.place_figure(usage)
    drawn["usage-a"] = drawn["usage-b"] = figures.usage_figure(usage, names)
    drawn["overlap"] = figures.overlap_figure(usage, names)
    return usage_numbers(usage)
