"""A section stands on the page exactly when its data lie in the folder, with the numbers of its file."""

from __future__ import annotations

import json
import re

import pytest

from fake_analyses import interference, routing, write_analyses
from fake_comparison import SEEN, UNSEEN, comparison, write_comparison
from fake_runs import USUAL, fake_run
from html_page import Page
from mixtune.analyse import ReportSettings, write_report
from mixtune.analyse.report.sections import SECTIONS

ALWAYS = {"settings"}
RUNS = {"table", "bars", "curves", "routing", "samples", "budget"}
COMPARED = {"alone", "arms", "tasks", "learning", "search", "costs", "published"}
NAMES = {section.name for section in SECTIONS}
BARE = {"search": [], "published": None, "runs": []}
HOSTILE = '<img src=x onerror="alert(1)">&</script>'


def report(folder) -> Page:
    return Page(write_report(folder, folder / "report.html", ReportSettings()).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with everything in it, and its page."""
    folder = fake_run(tmp_path_factory.mktemp("whole") / "run", USUAL)
    write_comparison(folder, comparison(), points=12)
    write_analyses(folder / "mixlora", interference=interference(), routing=routing(tokens=True))
    return folder, report(folder)


def test_everything_is_shown_where_everything_lies(whole) -> None:
    _, page = whole
    assert page.ids & NAMES == NAMES
    assert sorted(page.figures) == sorted(page.json("figures"))
    assert page.fetched == ["https://aclanthology.org/2024.acl-long.38"]  # a link, not something that is loaded
    assert not page.loaded


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"comparison": comparison(blind=False)}, COMPARED),
        ({"comparison": comparison() | BARE}, COMPARED - {"search", "published", "learning"}),
        ({"comparison": comparison({"lora": (0.0, 0.0), "mixlora": (0.1, 0.1)})}, COMPARED - {"alone"}),
        ({"interference": interference(SEEN[:4], silent=1)}, {"interference"}),
        ({"routing": routing(per_task=2)}, {"maps"}),
    ],
    ids=["comparison", "no search", "no specialists", "interference", "routing"],
)  # fmt: skip
def test_sections_appear_exactly_with_their_data(parts, shown, tmp_path) -> None:
    analyses = {name: content for name, content in parts.items() if name != "comparison"}
    write_analyses(tmp_path, **analyses)
    if "comparison" in parts:
        write_comparison(tmp_path, parts["comparison"], points=2)
    assert report(tmp_path).ids & NAMES == shown | ALWAYS


def test_an_arm_that_was_asked_fewer_tasks_says_so(tmp_path) -> None:
    content = comparison()
    content["results"][0]["arms"]["specialists"]["splits"]["seen"]["tasks"] = 2
    write_comparison(tmp_path, content, points=2)
    text = " ".join("".join(report(tmp_path).words).split())
    assert text.count(f"2 of {len(SEEN)} tasks only") == 1


def test_runs_that_failed_are_shown_with_the_reason(tmp_path) -> None:
    content = comparison()
    entry = content["results"][0]
    for place in (entry["arms"], entry["differences"], entry["gaps"]["specialists"]):
        del place["mixlora-released"]
    entry["arms"]["mixlora"]["seeds"] = [0, 2]
    content["runs"] = [row for row in content["runs"] if row["arm"] != "lora-2x"]
    del entry["arms"]["lora-2x"]
    why = {"command": "train", "status": -9, "reason": "ended by SIGKILL", "log": "mixlora/seed-1/log.txt"}
    content["failed"] = [{"run": "mixlora seed 1", **why}]
    write_comparison(tmp_path, content, points=2)
    text = " ".join("".join(report(tmp_path).words).split())
    assert "Failed runs (1)" in text and "ended by SIGKILLmixlora/seed-1/log.txt" in text
    assert "2 of 3" in text and "mixlora-releasednot finished" in text and "0 of 3" in text
    assert "search failed" in text


def test_tables_print_the_numbers_of_the_comparison(whole) -> None:
    folder, page = whole
    content = json.loads((folder / "comparison.json").read_text())
    arms = content["results"][0]["arms"]
    text = " ".join("".join(page.words).split())
    for name, arm in arms.items():
        for split, found in arm["splits"].items():
            assert f"{100 * found['mean']:.1f} %" in text, (name, split)
            assert f"{100 * found['low']:.1f} to {100 * found['high']:.1f}" in text
    for task, found in arms["mixlora"]["tasks"].items():
        assert f"{100 * found['mean']:.1f} %" in text, task
    for expected in (
        "14,376,960",
        "5 min 12 s",
        "peak RAM",
        "2.60 GB",
        "peak GPU memory",
        "1.90 GB",
        "at the last start runs were 8 at a time on this machine, 2 thread(s) each, on one GPU",
        "r = 59 (gap −0.6 %)",
        "1345.86",
        "51.25",
        "0.003",
        "at the grid's edge in adapter.scaling",
        "mixtune compare recipes/pocket/compare.yaml",
        "0123abcd" * 5,
    ):
        assert expected in text, expected  # fmt: skip


def test_figures_hold_the_numbers_of_their_files(whole) -> None:
    folder, page = whole
    figures, entry = page.json("figures"), json.loads((folder / "comparison.json").read_text())["results"][0]
    alone = {trace["name"]: trace for trace in figures["alone"]["data"]}
    gaps = entry["gaps"]["specialists"]["lora"]["tasks"]
    worst = min(gaps, key=lambda task: gaps[task]["mean"])
    assert alone["specialists (alone)"]["y"][-1].split()[0] == worst  # the last category is drawn on top
    assert alone["lora (together)"]["x"][-1] == pytest.approx(entry["arms"]["lora"]["tasks"][worst]["mean"])
    marks = {label.split()[0]: label.split()[1:] for label in alone["lora (together)"]["y"]}
    assert {t for t, m in marks.items() if m == ["▼"]} == {t for t, gap in gaps.items() if gap["high"] < 0}
    mixture = next(trace for trace in figures["difference-0-seen"]["data"] if trace["name"] == "mixlora")
    assert mixture["x"][0] == pytest.approx(100 * entry["differences"]["mixlora"]["splits"]["seen"]["mean"])
    assert mixture["marker"]["symbol"] == "circle"
    heat = figures["tasks-0-unseen"]["data"][0]
    assert sorted(heat["y"]) == sorted(UNSEEN) and "base" not in heat["x"] and "specialists" not in heat["x"]
    told = json.loads((folder / "mixlora/interference/interference.json").read_text())
    deep = next(group for group in told["groups"] if (group["side"], group["name"]) == ("B", "deep"))
    drawn, rings = figures["interference-0-B-deep"]["data"]
    assert drawn["z"][0][2] == deep["score"]["value"][0][2] == -0.6
    assert drawn["z"][0][0] is None and set(drawn["z"][-1]) == {None}  # by definition; undecided row
    assert (SEEN[2], SEEN[0]) in set(zip(rings["x"], rings["y"], strict=True))
    choices = page.json("data-interference-0")
    assert [group["name"] for group in choices][:2] == ["all chosen layers", "shallow (layer 5)"]
    assert choices[3]["B"]["z"] == drawn["z"]


def test_every_routing_picture_has_its_untrained_twin(whole) -> None:
    folder, page = whole
    drawn = [name for name in page.figures if re.match(r"(map|told|apart|shared)-", name)]
    assert len(drawn) == 8
    for name in drawn:
        assert name.replace("untrained", "trained") in drawn
        assert re.sub(r"(?<!un)trained", "untrained", name) in drawn
    content = json.loads((folder / "mixlora/routing/routing.json").read_text())
    maps, first = page.json("data-maps-0"), content["maps"][0]
    x = [value for task in maps["maps"]["all"]["trained"] for value in task[0]]
    assert x == pytest.approx(first["x"], abs=1e-3)
    assert (
        page.json("figures")["told-trained-0"]["data"][0]["zmax"]
        == page.json("figures")["told-untrained-0"]["data"][0]["zmax"]
    )


def test_curves_are_means_over_seeds_and_specialists_show_their_own_task(whole) -> None:
    folder, page = whole
    traces = {(t["name"], t["meta"]["choice"]): t for t in page.json("figures")["arm-curves"]["data"]}
    first = [
        json.loads((folder / f"mixlora/seed-{s}/train_log.jsonl").read_text().splitlines()[0])["loss"] for s in range(3)
    ]
    assert traces["mixlora", "all tasks"]["y"][0] == pytest.approx(sum(first) / 3, abs=1e-4)
    own = [
        json.loads((folder / f"specialists/seed-{s}/trend/train_log.jsonl").read_text().splitlines()[0])["loss"]
        for s in range(3)
    ]
    assert traces["specialists", "trend"]["y"][0] == pytest.approx(sum(own) / 3, abs=1e-4)
    assert ("base", "all tasks") not in traces


def test_names_cannot_break_out_of_the_page(tmp_path) -> None:
    tasks = (HOSTILE, *SEEN[:3])
    content = comparison({"lora": (0.0, 0.0), "mixlora": (0.1, 0.1), "specialists": (0.05, None)})
    content["matched"] = content["settings"]["note"] = [HOSTILE]
    write_comparison(tmp_path, content, points=2)
    named = routing(per_task=2)
    named["tasks"][0]["name"] = HOSTILE
    write_analyses(tmp_path, interference=interference(tasks, silent=0), routing=named)
    page = report(tmp_path)
    assert HOSTILE in "".join(page.words)
    assert not page.loaded and not page.handlers


def test_a_page_stays_small_and_holds_plotly_once(whole) -> None:
    folder, page = whole
    size = (folder / "report.html").stat().st_size
    script = max(len(text) for _, text in page.scripts)
    assert size - script < 2_000_000
    assert [attrs["id"] for attrs, _ in page.scripts if attrs.get("type") == "application/gzip"] == ["plotly"]
