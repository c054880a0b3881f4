"""The page as a whole: complete, self-contained, safe against what answers may hold."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from fake_analyses import interference, routing, write_analyses
from fake_comparison import SEEN, comparison, write_comparison
from fake_runs import HOSTILE, USUAL, fake_run
from html_page import Page
from mixtune.analyse import ReportSettings, RunFolders, find_runs, write_report
from mixtune.analyse.report.material import find_material
from mixtune.analyse.report.write import title_of

SMALL = interference(SEEN[:3], silent=0)
SECTIONS = {"table", "bars", "curves", "routing", "samples", "budget", "settings"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = fake_run(tmp_path_factory.mktemp("report") / "run", USUAL)
    path = write_report(folder, folder / "report.html", ReportSettings(command="make demo", note="A note."))
    return path, Page(path.read_text(encoding="utf-8"))


def test_page_has_every_section_and_fetches_nothing(report) -> None:
    path, page = report
    assert page.ids >= SECTIONS
    assert page.fetched == []
    style = re.search(r"<style>(.*?)</style>", path.read_text(), re.S)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    assert "prefers-color-scheme: dark" in style[1]
    (unpacked,) = (text for attrs, text in page.scripts if attrs.get("type") == "application/gzip")
    assert gzip.decompress(base64.b64decode(unpacked)).decode() == get_plotlyjs()
    assert len(path.read_bytes()) < 2_400_000, "plotly.js is packed"


def test_every_place_for_a_figure_has_its_figure(report) -> None:
    _, page = report
    figures = page.json("figures")
    assert sorted(page.figures) == sorted(figures)
    assert {"accuracy-seen", "accuracy-unseen", "curves", "places", "usage-a", "usage-b", "overlap"} == set(figures)
    bars = {trace["name"]: trace for trace in figures["accuracy-seen"]["data"]}
    assert bars["mixlora"]["y"] == ["clock", "letter"] and bars["mixlora"]["x"] == [0.9, 0.9]
    assert bars["guessing"]["x"] == [0.5, 0.5]
    assert bars["lora"]["error_x"]["array"][0] == pytest.approx(0.7812 - 0.6, abs=1e-3)
    clock = [t for t in figures["curves"]["data"] if t["meta"]["choice"] == "clock" and t["name"] == "mixlora"]
    assert clock[0]["y"] == [1.5, 0.5]
    assert not any("template" in figure["layout"] for figure in figures.values())
    usage = page.json("data-usage")
    assert len(usage["a"]) == len(usage["layers"]) == 6
    assert usage["start"] == 0


def test_page_opens_with_the_answer(report) -> None:
    _, page = report
    text = " ".join(" ".join(page.words).split())
    assert text.index("mixlora answers 90.0 % right and lora 55.0 %") < text.index("Every task")
    assert "within the noise" in text and "A note." in text and "make demo" in text
    assert "1,234,567" in text and "2 min 30 s" in text


def test_answers_cannot_break_out_of_the_page(report) -> None:
    path, page = report
    assert HOSTILE in "".join(page.words)
    assert HOSTILE not in path.read_text()
    assert not any(text.strip() == "alert(1)" for _, text in page.scripts)


def test_numbers_and_picture_lie_beside_the_page(report) -> None:
    path, _ = report
    numbers = json.loads(path.with_suffix(".json").read_text())
    seen = numbers["comparisons"][0]
    assert (seen["subject"], seen["baseline"], seen["split"], seen["verdict"]) == (
        "mixlora",
        "lora",
        "seen",
        "better",
    )
    assert seen["difference"] == pytest.approx(0.35)
    assert 0 < seen["low"] < 0.35 < seen["high"]
    assert numbers["routing"]["dead_share"] == pytest.approx(2 * 3 * (2 + 1) / 72)
    assert set(numbers["models"]) == {"mixlora", "lora", "untuned"}
    with Image.open(path.with_suffix(".png")) as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
        assert picture.width > 1000 and len(colours) > 20
    assert not list(path.parent.glob(".*.partial"))


def test_models_alone_untrained_or_named_by_hand(tmp_path) -> None:
    folder = fake_run(tmp_path / "run", {"untuned": USUAL["untuned"]})
    page = Page(write_report(folder, tmp_path / "a" / "one.html").read_text())
    assert not page.ids & {"curves", "routing"}
    assert "untuned answers 45.0 % right" in page.text
    folders = {"mine": RunFolders(evaluation=folder / "untuned" / "evaluation"), **find_runs(folder)}
    settings = ReportSettings(subject="mine", baseline="untuned", way="greedy")
    page = Page(write_report(folders, tmp_path / "two.html", settings).read_text())
    assert "mine answers 45.0 % right and untuned 45.0 % (0.0 points" in page.text


def test_a_way_nobody_answered_is_an_error(tmp_path) -> None:
    folder = fake_run(tmp_path / "run", {"lora": USUAL["lora"]})
    path = folder / "lora" / "evaluation" / "results.json"
    results = json.loads(path.read_text())
    for entry in (*results["tasks"].values(), *results["summary"].values()):
        entry["greedy"] = None
    path.write_text(json.dumps(results))
    with pytest.raises(ValueError, match="'lora' has no 'greedy' results"):
        write_report(folder, tmp_path / "r.html", ReportSettings(way="greedy"))
    assert not list(tmp_path.glob("r.*"))


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        ({"comparison": True, "interference": SMALL}, "Do the tasks fight, and does a mixture help?"),
        ({"interference": SMALL, "routing": routing(per_task=2)}, "Do the tasks fight?"),
        ({"routing": routing(per_task=2)}, "What do the routers choose?"),
    ],
    ids=["comparison", "interference", "routing"],
)
def test_the_title_is_the_question_that_is_answered(parts, title, tmp_path) -> None:
    if parts.get("comparison"):
        write_comparison(tmp_path, comparison(), points=0)
    write_analyses(tmp_path, **{name: content for name, content in parts.items() if name != "comparison"})
    assert title_of(find_material(tmp_path, ReportSettings())) == title


def test_a_title_may_be_given(tmp_path) -> None:
    write_analyses(tmp_path, interference=SMALL)
    page = write_report(tmp_path, tmp_path / "report.html", ReportSettings(title="Mine"))
    assert "<title>Mine · mixtune</title>" in page.read_text(encoding="utf-8")
    assert json.loads(page.with_suffix(".json").read_text())["title"] == "Mine"
