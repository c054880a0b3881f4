"""The sections of the page, as a table: which data each needs, what fills it, and the template that prints it.

A new section is one more row here and one more template.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mixtune.analyse.palette import dash_of, series_of
from mixtune.analyse.report import arms, duels, interference, routing, usage
from mixtune.analyse.report.costs import cost_rows
from mixtune.analyse.report.curves import ALL_TASKS, Curves, curve_figure, run_curves
from mixtune.analyse.report.gallery import sample_cards
from mixtune.analyse.report.material import Material
from mixtune.analyse.report.rows import accuracy_tables, budget_rows, split_order
from mixtune.analyse.report.scores import accuracy_figure
from mixtune.analyse.report.sparks import HEIGHT, WIDTH, spark_cards
from mixtune.analyse.selections import usage_numbers

WAYS = {
    "rank": "the option with the highest likelihood counts as the answer",
    "greedy": "the freely generated answer must equal the right one",
}


@dataclass(frozen=True)
class Drawn:
    """What the builders leave for the page's script: figures by name, and numbers that menus choose from."""

    figures: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section: `name` is its anchor and its template, `link` its word in the list of links; it is shown where `has`
    says so, with the values of `build`.
    """

    name: str
    link: str
    has: Callable[[Material], bool]
    build: Callable[[Material, Drawn], dict[str, Any]]


def run_styles(material: Material) -> dict[str, str]:
    """The style of every evaluated model."""
    return series_of([run.label for run in material.runs])


def _models(material: Material) -> list[dict[str, str]]:
    return [{"label": label, "series": style} for label, style in run_styles(material).items()]


def _interference(material: Material, drawn: Drawn) -> dict[str, Any]:
    return interference.section(material.interference, drawn.figures, drawn.data)


def _alone(material: Material, drawn: Drawn) -> dict[str, Any]:
    assert material.comparison
    figure = duels.alone_figure(material.comparison)
    drawn.figures.update({"alone": figure} if figure else {})
    return {"figure": figure is not None, "gaps": arms.gap_tables(material.comparison), "compared": material.comparison}


def _table(material: Material, drawn: Drawn) -> dict[str, Any]:
    way = material.settings.way
    return {"way": WAYS[way], "models": _models(material), "tables": accuracy_tables(material.runs, way)}


def _bars(material: Material, drawn: Drawn) -> dict[str, Any]:
    splits = split_order(material.runs)
    for split in splits:
        drawn.figures[f"accuracy-{split}"] = accuracy_figure(material.runs, split, material.settings.way)
    return {"splits": splits}


def _learning(curves: Curves, styles: dict[str, str], labels: list[str], name: str, drawn: Drawn) -> dict[str, Any]:
    drawn.figures[name] = curve_figure(curves, styles)
    present = [label for label in styles if any(label in lines for lines in curves.values())]
    shown = [label for label in labels if label in present]
    cards = spark_cards(curves, styles, shown)
    return {
        "figure": name, "choices": list(curves), "sparks": cards, "width": WIDTH, "height": HEIGHT,
        "models": [{"label": label, "series": styles[label]} for label in shown],
    }  # fmt: skip


def _curves(material: Material, drawn: Drawn) -> dict[str, Any]:
    styles = run_styles(material)
    return _learning(run_curves(material.runs), styles, list(styles), "curves", drawn)


def _arm_curves(material: Material, drawn: Drawn) -> dict[str, Any]:
    compared = material.comparison
    assert compared
    values = _learning(compared.curves, compared.styles, compared.spotlight(), "arm-curves", drawn)
    return {**values, "specialists": compared.specialists, "total": ALL_TASKS}


def _maps(material: Material, drawn: Drawn) -> dict[str, Any]:
    return routing.section(material.routing, drawn.figures, drawn.data)


def _usage(material: Material, drawn: Drawn) -> dict[str, Any]:
    found, tasks = material.usage, material.runs[0].tasks
    assert found
    names = routing.task_names([{"name": name, "split": tasks[name]["split"]} for name in found.tasks])
    drawn.figures["places"] = usage.usage_places(found)
    drawn.data["usage"] = usage.usage_data(found)
    sides = [side for side in ("a", "b") if side in drawn.data["usage"]]
    drawn.figures.update({f"usage-{side}": usage.usage_figure(found, names) for side in sides})
    drawn.figures["overlap"] = usage.usage_overlap(found, names)
    kind = "factors" if len(sides) == 2 else "experts"
    return {**usage_numbers(found), "control": bool(material.routing), "kind": kind, "sides": len(sides)}


def _arms(material: Material, drawn: Drawn) -> dict[str, Any]:
    compared = material.comparison
    assert compared
    return {
        "tables": arms.arm_tables(compared), "baseline": compared.baseline, "way": WAYS[compared.content["way"]],
        "figures": duels.add_differences(compared, drawn.figures), "methods": compared.content["methods"],
        "failed": compared.failed,
    }  # fmt: skip


def _tasks(material: Material, drawn: Drawn) -> dict[str, Any]:
    compared = material.comparison
    assert compared
    tables, figures = arms.task_tables(compared), duels.add_tasks(compared, drawn.figures)
    return {"tables": tables, "figures": figures, "baseline": compared.baseline, "styles": compared.styles}


def _samples(material: Material, drawn: Drawn) -> dict[str, Any]:
    if material.runs:
        return {"cards": sample_cards(material.runs, material.settings.way, material.settings.samples)}
    assert material.comparison
    way = material.comparison.content["way"]
    return {"cards": sample_cards(material.comparison.sample_runs, way, material.settings.samples)}


def _search(material: Material, drawn: Drawn) -> dict[str, Any]:
    assert material.comparison
    settings = material.comparison.content["settings"]
    about = {"search": settings.get("search") or {}, "judge": settings.get("evaluate") or {}}
    return {"table": arms.search_table(material.comparison), **about}


def _costs(material: Material, drawn: Drawn) -> dict[str, Any]:
    assert material.comparison
    return {
        "rows": cost_rows(material.comparison),
        "styles": material.comparison.styles,
        "ran": material.comparison.content.get("ran", ""),
    }


def _budget(material: Material, drawn: Drawn) -> dict[str, Any]:
    return {"rows": budget_rows(material.runs), "models": _models(material)}


def _published(material: Material, drawn: Drawn) -> dict[str, Any]:
    assert material.comparison
    found = material.comparison.content["published"]
    return {"tables": arms.published_tables(material.comparison), "source": found["source"], "url": found["url"]}


def _settings(material: Material, drawn: Drawn) -> dict[str, Any]:
    recipes = [{"label": run.label, "text": run.recipe} for run in material.runs if run.recipe]
    versions = material.runs[0].results.get("versions", {}) if material.runs else {}
    return {
        "material": material, "recipes": recipes, "versions": versions,
        "compared": material.comparison.content if material.comparison else None,
        "analyses": [
            {"kind": kind, "label": label, "content": content}
            for kind, found in (("interference", material.interference), ("routing", material.routing))
            for label, content in found.items()
        ],
    }  # fmt: skip


def _compared(part: str = "") -> Callable[[Material], bool]:
    """A test for a comparison, or for one whose content has something under `part`."""
    return lambda material: material.comparison is not None and (not part or bool(material.comparison.content[part]))


SECTIONS = (
    Section(name="interference", link="Interference", has=lambda m: bool(m.interference), build=_interference),
    Section(
        name="alone", link="Alone or together", build=_alone,
        has=lambda m: m.comparison is not None and m.comparison.specialists is not None,
    ),
    Section(
        name="learning", link="Learning", build=_arm_curves,
        has=lambda m: m.comparison is not None and bool(m.comparison.curves),
    ),
    Section(name="maps", link="Routing", has=lambda m: bool(m.routing), build=_maps),
    Section(name="arms", link="Arms", has=_compared(), build=_arms),
    Section(name="tasks", link="Every task", has=_compared(), build=_tasks),
    Section(name="table", link="Table", has=lambda m: bool(m.runs), build=_table),
    Section(name="bars", link="Bars", has=lambda m: bool(m.runs), build=_bars),
    Section(name="curves", link="Learning", has=lambda m: any(run.log for run in m.runs), build=_curves),
    Section(name="routing", link="Factors", has=lambda m: m.usage is not None, build=_usage),
    Section(
        name="samples", link="Samples", build=_samples,
        has=lambda m: bool(m.runs) or (m.comparison is not None and bool(m.comparison.sample_runs)),
    ),
    Section(name="search", link="Search", has=_compared("search"), build=_search),
    Section(name="costs", link="Cost", has=_compared(), build=_costs),
    Section(name="budget", link="Budget", has=lambda m: any(budget_rows(m.runs)), build=_budget),
    Section(name="published", link="Published", has=_compared("published"), build=_published),
    Section(name="settings", link="Settings", has=lambda m: True, build=_settings),
)  # fmt: skip


def dashed_styles() -> list[str]:
    """Styles that share a colour with an earlier one, whose swatches are striped."""
    return [f"s{number}" for number in range(30) if dash_of(f"s{number}") != "solid"]
