"""The published tables: complete, consistent in themselves, and beside the right arms and numbers."""

import json

import pytest

import official_files
from compare.comparisons import InProcess, comparison, run
from mixtune.analyse import write_report
from mixtune.compare.arms import Arm
from mixtune.compare.published import beside_paper, paper_row, protocols
from mixtune.compare.settings import ArmSettings
from mixtune.config import Recipe

TABLES = {table["name"]: table for table in protocols()["conditional-mixlora"]["tables"]}


def row(table, model, factors=None, rank=None):
    found = next(r for r in TABLES[table]["rows"] if (r["model"], r["factors"], r["rank"]) == (model, factors, rank))
    return dict(zip(TABLES[table]["columns"], found["values"], strict=True))


def test_the_tables_are_whole():
    assert {name: len(table["rows"]) for name, table in TABLES.items()} == {"Table 1": 13, "Table 2": 5}
    for table in TABLES.values():
        assert all(len(row["values"]) == len(table["columns"]) for row in table["rows"])
        assert len({(r["model"], r["factors"], r["rank"]) for r in table["rows"]}) == len(table["rows"])


@pytest.mark.parametrize("name", TABLES)
def test_every_average_is_that_of_its_columns(name):
    """A digit mistyped anywhere but in MME would show here; the paper rounds to two places."""
    table = TABLES[name]
    for each in table["rows"]:
        values = dict(zip(table["columns"], each["values"], strict=True))
        over = [values[column] for column in table["average"]["over"]]
        assert values[table["average"]["column"]] == pytest.approx(sum(over) / len(over), abs=0.00501)


def test_the_headline_numbers_are_those_of_the_methods_page():
    lora, mixture = row("Table 1", "LoRA", None, 4), row("Table 1", "MixLoRA", 16, 4)
    assert (lora["MME"], lora["MMAvg"], mixture["MME"], mixture["MMAvg"]) == (1345.86, 59.64, 1443.82, 64.10)
    assert row("Table 2", "LoRA_Specialist", None, 16)["AVG"] == 68.00


def arm(adapter=None, stage="tune", **settings):
    given = {"model": {"name_or_path": "m", "dtype": "float32"}, "data": {"sources": [{"path": "d"}]}}
    given["train"] = {"output_dir": "o", "learning_rate": 1.0, "stage": stage}
    recipe = Recipe.model_validate({**given, "adapter": adapter})
    return Arm(name="a", settings=ArmSettings.model_validate(settings), recipe=recipe, parameters=None)


def test_an_arm_finds_the_row_it_repeats():
    found = {
        "lora": paper_row(arm({"preset": "lora", "r": 4}), TABLES["Table 1"]),
        "mixlora": paper_row(arm({"preset": "mixlora-released", "r": 8, "num_factors": 32}), TABLES["Table 1"]),
        "full": paper_row(arm(stage="full"), TABLES["Table 1"]),
        "untuned": paper_row(arm({"preset": "lora"}, kind="untuned"), TABLES["Table 1"]),
        "specialists": paper_row(arm({"preset": "lora", "r": 16}, kind="specialists"), TABLES["Table 2"]),
    }
    assert {name: (r["model"], r["factors"], r["rank"]) for name, r in found.items()} == {
        "lora": ("LoRA", None, 4), "mixlora": ("MixLoRA", 32, 8), "full": ("LLaVA_FT", None, None),
        "untuned": ("LLaVA_Align", None, None), "specialists": ("LoRA_Specialist", None, 16),
    }  # fmt: skip
    for other in (
        {"preset": "lora", "r": 3},
        {"preset": "llava-mole"},
        {"preset": "mixlora", "r": 4, "num_factors": 8},
    ):
        assert paper_row(arm(other), TABLES["Table 1"]) is None
    assert paper_row(arm(stage="align"), TABLES["Table 1"]) is None


def test_a_run_stands_beside_the_paper_column_by_column():
    arms, means = {"a": arm({"preset": "lora", "r": 8})}, {"a": {"VSR": 0.5, "pope": 0.75, "mme": 0.6, "mine": 0.1}}
    (found,) = beside_paper("conditional-mixlora", arms, means, {"a": {"textvqa": 41.5, "pope": 80.0}})
    assert found["paper"]["MME"] == 1312.87 and found["table"] == "Table 1"
    assert (found["run"]["Text-VQA"], found["run"]["VSR"], found["run"]["Pope"]) == (41.5, 50.0, 80.0)
    assert found["run"]["MME"] is None, "an accuracy is not what stands there"
    assert found["run"]["MNIST"] is None and found["run"]["MMAvg"] is None
    seven = {"a": dict.fromkeys(TABLES["Table 1"]["average"]["over"], 0.5)}
    assert beside_paper("conditional-mixlora", arms, seven, {})[0]["run"]["MMAvg"] == 50.0


def test_the_protocol_of_the_paper_runs_from_official_files_to_its_table(tmp_path):
    names = ("mme", "textvqa", "vsr", "snli-ve", "cifar10", "cifar100", "mnist", "pope")
    asked = [f"{name}={official_files.BUILDERS[name](tmp_path / 'files' / name)}" for name in names]
    arms = {"untuned": {"kind": "untuned"}, "lora": {"adapter": {"preset": "lora", "r": 4}}}
    arms["mixlora"] = {"adapter": {"preset": "mixlora", "r": 2, "num_factors": 16}}
    judge = {"benchmarks": asked, "way": "greedy"}
    settings = comparison(tmp_path, arms=arms, seeds=[0], evaluate=judge, protocol="conditional-mixlora")
    result = run(tmp_path, settings, InProcess()).result
    (entry,) = result["results"]
    assert set(entry["tasks"]) == set(names) and {row["split"] for row in entry["tasks"].values()} == {"unseen"}
    assert entry["arms"]["lora"]["splits"]["unseen"]["tasks"] == len(names)
    assert "p_holm" in entry["differences"]["mixlora"]["splits"]["unseen"]
    rows = {row["arm"]: row for row in result["published"]["rows"] if row["table"] == "Table 1"}
    assert {name: row["row"]["model"] for name, row in rows.items()} == {
        "untuned": "LLaVA_Align", "lora": "LoRA", "mixlora": "MixLoRA"
    }  # fmt: skip
    own = json.loads((tmp_path / "out" / "lora" / "seed-0" / "evaluation" / "results.json").read_text())
    numbers = {name: table["numbers"] for name, table in own["benchmarks"].items()}
    ours = rows["lora"]["run"]
    assert ours["MME"] == pytest.approx(numbers["mme"]["total"]["value"])
    assert ours["Text-VQA"] == pytest.approx(100 * numbers["textvqa"]["accuracy"]["value"])
    assert ours["MMAvg"] == pytest.approx(100 * own["mmavg"]["value"])
    page = write_report(tmp_path / "out", tmp_path / "page.html").read_text()
    assert "LLaVA_Align" in page and "SNLI-VE" in page
