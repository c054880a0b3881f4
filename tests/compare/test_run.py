"""A comparison killed and resumed, with a run that fails, with settings that changed."""

import getpass
import json
import os
import platform
import re
import shutil
from pathlib import Path

import pytest

from compare.comparisons import InProcess, comparison, run
from html_page import Page
from mixtune.analyse import write_report
from mixtune.compare import PlanError


def test_what_was_written_is_what_was_returned(finished):
    root, _, _, ended = finished
    assert not ended.failed
    assert json.loads((root / "out" / "comparison.json").read_text()) == json.loads(json.dumps(ended.result))
    for name in ("comparison.csv", "comparison.md"):
        assert (root / "out" / name).read_text()


def test_a_finished_comparison_has_a_report(finished, tmp_path):
    root, _, _, ended = finished
    page = write_report(root / "out", tmp_path / "report.html")
    numbers, found = json.loads(page.with_suffix(".json").read_text()), Page(page.read_text(encoding="utf-8"))
    assert numbers["comparison"] == json.loads(json.dumps(ended.result))
    assert {"alone", "arms", "tasks", "learning", "samples", "costs", "published", "settings"} <= found.ids
    curves = {(trace["name"], trace["meta"]["choice"]) for trace in found.json("figures")["arm-curves"]["data"]}
    assert {(arm, "all tasks") for arm in ("lora", "mixlora", "specialists")} <= curves
    assert "search" not in found.ids and "2 seeds an arm" in " ".join(numbers["scale"])


def test_every_run_has_its_own_folder(finished):
    root, _, _, ended = finished
    folders = [row["folder"] for row in ended.result["runs"]]
    assert "lora/seed-1" in folders and "specialists/seed-0/colour" in folders and "untuned/seed-0" in folders
    for folder in folders:
        names = {path.name for path in (root / "out" / folder).iterdir()}
        assert {"run.json", "log.txt", "evaluation"} <= names
        assert ("train_result.json" in names) == (not folder.startswith("untuned"))


def test_a_finished_comparison_repeats_nothing(finished):
    root, settings, _, ended = finished
    launch = InProcess()
    again = run(root, settings, launch)
    assert not launch.commands and again.result["results"] == ended.result["results"]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A comparison of one arm and two seeds, killed in the middle and started again: (root, settings, both launchers,
    what came of it).
    """
    root = tmp_path_factory.mktemp("resumed")
    settings = comparison(root, arms={"lora": {"adapter": {"preset": "lora"}}})
    first, second = InProcess(dies_at=3), InProcess()  # train, evaluate, train, and then
    with pytest.raises(KeyboardInterrupt):
        run(root, settings, first)
    assert not (root / "out" / "comparison.json").exists()
    return root, settings, first, second, run(root, settings, second)


def moved(resumed, name, **changes):
    """(root, settings) of a copy of that comparison in another folder."""
    root, settings, *_ = resumed
    shutil.copytree(root / "out", root / name)
    return root, json.loads(json.dumps({**settings, "output_dir": str(root / name), **changes}))


def test_a_killed_comparison_goes_on_and_repeats_nothing(resumed):
    _, _, first, second, ended = resumed
    assert not ended.failed and [words[0] for words in second.commands] == ["evaluate"]
    assert len({*first.commands, *second.commands}) == 4


def test_a_moved_comparison_repeats_nothing(resumed):
    launch = InProcess()
    assert not run(*moved(resumed, "moved"), launch).failed and not launch.commands


def test_a_failing_run_stops_no_other_and_is_told(resumed):
    root, settings = moved(resumed, "failing", seeds=[2, 0, 1])
    launch = InProcess(breaks="seed-2")
    ended = run(root, settings, launch)
    (failed,) = ended.failed
    assert (failed.failed, failed.status) == ("train", 3) and len(launch.commands) == 1  # a new seed, the others kept
    told = {"run": "lora seed 2", "command": "train", "status": 3, "reason": "it broke"}
    assert ended.result["failed"] == [{**told, "log": "lora/seed-2/log.txt"}]
    assert ended.result["results"][0]["arms"]["lora"]["seeds"] == [0, 1]
    assert [row["done"] for row in ended.result["runs"]] == [False, True, True]


def test_changed_settings_are_refused_by_the_field_and_discarded_when_asked(resumed):
    root, settings = moved(resumed, "changed", seeds=[0])
    settings["base"]["train"]["learning_rate"] = 0.02
    launch = InProcess()
    with pytest.raises(PlanError, match=r"lora/seed-0: train\.learning_rate: was 0\.01, now 0\.02"):
        run(root, settings, launch)
    assert not launch.commands
    ended = run(root, settings, launch, discard_changed=True)
    assert not ended.failed and [words[0] for words in launch.commands] == ["train", "evaluate"]
    assert "learning_rate: 0.02" in (root / "changed" / "lora" / "seed-0" / "recipe.yaml").read_text()


def test_runs_that_no_point_of_a_search_could_have_made_are_refused_before_it(resumed):
    root, settings = moved(resumed, "searched", seeds=[0])
    settings["evaluate"]["validation"] = [str(root / "validation" / "samples.jsonl")]
    settings["search"] = {"grid": {"learning_rate": [0.02, 0.03]}}
    launch = InProcess()
    with pytest.raises(PlanError, match=r"lora/seed-0: train\.learning_rate: was 0\.01, now 0\.02"):
        run(root, settings, launch)
    assert not launch.commands
    settings["search"] = {"grid": {"learning_rate": [0.01]}}
    assert not run(root, settings, launch).failed
    assert [words[0] for words in launch.commands] == ["train", "evaluate"], "of the search; the final run was kept"


def test_a_search_chooses_for_the_final_runs_and_an_arm_whose_search_failed_is_not_run(tmp_path):
    arms = {"lora": {"adapter": {"preset": "lora", "scaling": 1.0}}, "other": {"adapter": {"preset": "lora"}}}
    settings = comparison(tmp_path, arms=arms, seeds=[0])
    settings["evaluate"]["validation"] = [str(tmp_path / "validation" / "samples.jsonl")]
    settings["search"] = {"grid": {"learning_rate": [1e-9, 0.05], "scaling": [4.0]}, "steps": 2}
    ended = run(tmp_path, settings, InProcess(breaks="search/lora"))
    failed, rows = ended.result["search"][:2], ended.result["search"][2:]
    assert all(row["accuracy"] is None and not row["chosen"] and set(row["point"]) == {"train.learning_rate"}
               for row in failed)  # fmt: skip
    assert [row["arm"] for row in ended.result["runs"]] == ["other"] and len(ended.failed) == 2
    assert ended.result["results"][0]["differences"] == {}  # without its baseline
    assert [row["point"]["train.learning_rate"] for row in rows] == [1e-9, 0.05] and sum(r["chosen"] for r in rows) == 1
    chosen = next(row for row in rows if row["chosen"])
    assert chosen["accuracy"] == max(row["accuracy"] for row in rows)
    facts = ended.result["arms"]["other"]
    assert (facts["learning_rate"], facts["scale"]) == (chosen["point"]["train.learning_rate"], 4.0)
    found = tmp_path / "out" / "search" / "other" / "learning_rate-0.05_scaling-4.0" / "seed-0"
    assert (found / "run.json").exists()
    assert json.loads((found / "train_result.json").read_text())["metrics"]["steps"] == 2


def test_arms_may_train_the_projector_alone_or_the_whole_language_model(tmp_path):
    arms = {"lora": {"adapter": {"preset": "lora"}}, "projector": {"train": {"stage": "align"}}}
    arms["full"] = {"train": {"stage": "full", "learning_rate": 1e-4}}
    ended = run(tmp_path, comparison(tmp_path, arms=arms, seeds=[0]), InProcess())
    assert not ended.failed and set(ended.result["results"][0]["differences"]) == {"projector", "full"}
    facts = ended.result["arms"]
    assert [facts[name]["stage"] for name in arms] == ["tune", "align", "full"]
    trained = {name: facts[name]["parameters"] for name in arms}
    assert trained["projector"]["total"] == trained["projector"]["projector"] == trained["lora"]["projector"]
    assert trained["full"]["total"] > trained["lora"]["total"] > trained["projector"]["total"]


def test_what_leaves_the_machine_names_no_place_on_it(finished, tmp_path):
    root, _, _, ended = finished
    page = write_report(root / "out", tmp_path / "report.html")
    texts = [path.read_text(encoding="utf-8") for path in (root / "out").glob("comparison.*")]
    found = Page(page.read_text(encoding="utf-8"))
    texts += [page.with_suffix(".json").read_text(), *found.words]
    texts += [text for attrs, text in found.scripts if "json" in attrs.get("type", "")]
    names = {str(root), str(Path.home()), os.environ["MIXTUNE_HOME"], f"{os.sep}{getpass.getuser()}{os.sep}"}
    for text in texts:
        assert not [name for name in names if name in text]
        assert not re.search(rf"\b{re.escape(platform.node())}\b", text)
        assert not re.findall(r"(?<![\w.~$/…<-])/\w+/\w+", text)
    settings = ended.result["settings"]
    assert settings["output_dir"] == "out" and settings["base"]["model"]["name_or_path"] == "model"
    assert settings["base"]["data"]["sources"][0]["path"] == "train/samples.jsonl"
