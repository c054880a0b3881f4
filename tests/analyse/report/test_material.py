"""Finding what a page is made of, and naming what cannot be read."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from fake_analyses import interference, routing, write_analyses
from fake_comparison import SEEN, comparison, write_comparison
from fake_runs import USUAL, fake_run
from mixtune.analyse import ReportSettings, write_report
from mixtune.analyse.report.material import find_material

SMALL = interference(SEEN[:3], silent=0)


def test_analyses_are_found_anywhere_below_and_named_by_where_they_lie(tmp_path) -> None:
    write_analyses(tmp_path / "mixlora" / "seed-0", interference=SMALL, routing=routing(per_task=2))
    write_analyses(tmp_path / "lora", interference=SMALL)
    found = find_material(tmp_path, ReportSettings())
    assert list(found.interference) == ["lora", "mixlora/seed-0"] and list(found.routing) == ["mixlora/seed-0"]
    assert find_material(tmp_path / "lora" / "interference", ReportSettings()).interference.keys() == {""}


def test_a_comparison_below_is_taken_if_it_is_the_only_one(tmp_path) -> None:
    write_comparison(tmp_path / "natural", comparison(), points=0)
    assert find_material(tmp_path, ReportSettings()).comparison.folder == tmp_path / "natural"
    write_comparison(tmp_path / "conflict", comparison(), points=0)
    commands = r"\n  mixtune report \S*conflict\n  mixtune report \S*natural$"
    with pytest.raises(ValueError, match=r"2 comparisons lie below it, and a report is about one of them:" + commands):
        find_material(tmp_path, ReportSettings())
    write_comparison(tmp_path, comparison(), points=0)
    assert find_material(tmp_path, ReportSettings()).comparison.folder == tmp_path


def test_the_comparison_of_two_evaluations_is_not_one_of_methods(tmp_path) -> None:
    folder = fake_run(tmp_path / "run", USUAL)
    (folder / "lora" / "evaluation" / "comparison.json").write_text('{"against": "other"}')
    assert find_material(folder, ReportSettings()).comparison is None


@pytest.mark.parametrize("name", ["comparison", "interference", "routing"])
def test_a_file_that_is_broken_or_of_another_format_is_named(name, tmp_path) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text("{broken")
    with pytest.raises(ValueError, match=rf"{name}\.json: not JSON"):
        find_material(tmp_path, ReportSettings())
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match=rf"{name}\.json: format: 99; this version reads"):
        find_material(tmp_path, ReportSettings())


def test_an_empty_folder_and_a_comparison_without_results_are_errors(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"comparison\.json.*evaluate at least one model first"):
        find_material(tmp_path / "none", ReportSettings())
    write_comparison(tmp_path, comparison() | {"results": [{"data_size": None, "arms": {}}]}, points=0)
    with pytest.raises(ValueError, match="no finished arm yet"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not list(tmp_path.glob("report.*"))


def test_a_page_never_writes_over_what_it_is_made_of(tmp_path) -> None:
    write_analyses(tmp_path, interference=SMALL)
    with pytest.raises(ValueError, match=r"would write its numbers over a interference\.json"):
        write_report(tmp_path, tmp_path / "interference" / "interference.html")


def test_the_answer_is_about_the_largest_data_size_and_all_sizes_are_tabled(tmp_path) -> None:
    small, large = (comparison({"lora": (0.0, 0.0), "mixlora": (gain, 0.0)}) for gain in (0.08, 0.03))
    entries = [small["results"][0] | {"data_size": 50}, large["results"][0] | {"data_size": 400}]
    write_comparison(tmp_path, large | {"results": entries, "data_sizes": [50, 400], "runs": []}, points=0)
    page = write_report(tmp_path, tmp_path / "report.html")
    numbers, text = json.loads(page.with_suffix(".json").read_text()), page.read_text(encoding="utf-8")
    assert "mixlora is 3.0 points" in numbers["answer"][0]
    assert "Seen tasks (21), 50 samples a task" in text and "Seen tasks (21), 400 samples a task" in text
    assert "▲ +8.0" in text and "▲ +3.0" in text


def test_still_pictures_lie_beside_the_page_one_for_each_kind(tmp_path) -> None:
    folder = fake_run(tmp_path / "run", USUAL)
    write_comparison(folder, comparison(), points=0)
    write_analyses(folder / "mixlora", interference=SMALL, routing=routing(per_task=2))
    write_report(folder, folder / "report.html")
    names = ["report.png", "report-evaluation.png", "report-interference.png", "report-routing.png"]
    assert sorted(path.name for path in folder.glob("report*.png")) == sorted(names)
    for name in names:
        with Image.open(folder / name) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20, name
    numbers = json.loads((folder / "report.json").read_text())
    assert numbers["comparison"]["results"] == comparison()["results"]
    assert numbers["analyses"]["interference"]["mixlora"]["summary"] == SMALL["summary"]
    whole = json.loads((folder / "report-interference.json").read_text())
    assert whole["groups"] == SMALL["groups"] and (folder / "report-routing.json").exists()
    assert not (folder / "report-evaluation.json").exists(), "its numbers are in report.json"
