"""The command line as a user sees it: what it teaches, what it prints, how it fails."""

import json
import re

import pytest
from typer.testing import CliRunner

import official_files
import released_files
from mixtune.cli import app
from mixtune.config import dump_recipe
from mixtune.pocket.benchmark import TABLE
from mixtune.training.parts import load_adapter
from runs import tiny_recipe
from tiny import tiny_processor


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def recipe_file(tiny_samples, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(tiny_recipe(tiny_samples(8), tmp_path / "run", max_steps=1)))
    return path


def test_help_teaches_by_examples():
    assert "train" in call("--help").output
    shown = call("train", "--help").output
    for words in ("Examples", "learning_rate=1e-4", "--dry-run", "--max-bad 20", "--no-resume"):
        assert words in shown, words


def test_train_applies_overrides_and_says_where_the_run_lies(recipe_file, tmp_path):
    done = call("train", recipe_file, "learning_rate=1e-4", "adapter.preset=lora", "adapter.r=2")
    assert done.exit_code == 0, done.output
    assert f"written to {tmp_path / 'run'}" in done.output and "preset lora" in done.output
    saved = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "learning_rate: 0.0001" in saved and "r: 2" in saved
    again = call("train", recipe_file, "learning_rate=1e-4", "adapter.preset=lora", "adapter.r=2")
    assert again.exit_code == 0 and "has been run to its end" in again.output


def test_all_mistakes_are_printed_without_a_traceback(recipe_file):
    failed = call("train", recipe_file, "learning_rat=1", "adapter.presett=lora")
    assert failed.exit_code == 2
    assert "did you mean 'learning_rate'?" in failed.output and "did you mean 'preset'?" in failed.output
    assert "Traceback" not in failed.output


def test_a_missing_recipe_is_named(tmp_path):
    failed = call("train", tmp_path / "none.yaml")
    assert failed.exit_code == 2 and "none.yaml" in failed.output and "Traceback" not in failed.output


def test_max_bad_lets_a_run_go_on(recipe_file, tmp_path):
    next((tmp_path / "tiny" / "images").glob("*.png")).unlink()
    assert call("train", recipe_file).exit_code == 2
    done = call("train", recipe_file, "--max-bad", "1", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "left out" in done.output and not (tmp_path / "run").exists()


def test_env_prints_versions():
    shown = call("env")
    assert shown.exit_code == 0
    assert all(word in shown.output for word in ("python", "torch", "transformers", "threads", "home"))


@pytest.fixture
def saved_model(tiny_llava, tmp_path):
    model, processor = tiny_llava()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_evaluate_and_report_on_a_file_of_samples(saved_model, tiny_samples, tmp_path):
    samples, out = tiny_samples(6), tmp_path / "runs" / "untuned" / "evaluation"
    done = call("evaluate", saved_model, "-b", samples, "--out", out, "--dtype", "float32", "--per-task", 1)
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    assert results["n"] == len(results["tasks"]) and str(out) in done.output.replace("\n", "")
    reported = call("report", tmp_path / "runs")
    assert reported.exit_code == 0, reported.output
    assert all((tmp_path / "runs" / f"report.{kind}").exists() for kind in ("html", "json", "png"))


def test_evaluate_a_public_benchmark_and_compare_in_pairs(saved_model, tmp_path):
    folder, out, other = official_files.pope(tmp_path / "pope"), tmp_path / "one", tmp_path / "two"
    for place in (other, out):
        asked = (
            "evaluate",
            saved_model,
            "-b",
            f"pope={folder}",
            "--out",
            place,
            "--dtype",
            "float32",
            "--way",
            "greedy",
        )
        done = call(*asked, *(("--against", other) if place == out else ()))
        assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())["benchmarks"]["pope"]
    assert results["protocol"] == "official" and "accuracy/random" in results["numbers"]
    assert "yes_ratio" in done.output and "against.json" in done.output.replace("\n", "")
    compared = json.loads((out / "against.json").read_text())["benchmarks"]["pope"]
    assert compared["numbers"]["accuracy"]["p_value"] == 1.0
    changed = call(*asked, "--protocol", "vlmevalkit")
    assert changed.exit_code == 2 and "holds another evaluation" in changed.output and "--no-resume" in changed.output
    assert call(*asked, "--protocol", "vlmevalkit", "--no-resume").exit_code == 0


def test_evaluate_lists_every_benchmark_and_its_help_names_them():
    listed, helped = call("evaluate", "--list"), call("evaluate", "--help")
    assert listed.exit_code == 0, listed.output
    named = re.findall(r"[\w/-]+", helped.output)
    for name, row in TABLE.items():
        assert f"\n{name} " in listed.output and name in named and row.title.split()[0] in listed.output, name


def test_what_was_left_out_is_listed_and_counted(saved_model, tmp_path):
    folder, out = official_files.pope(tmp_path / "pope"), tmp_path / "out"
    (folder / "coco" / "coco_pope_random.json").open("a").write("{oops\n")
    words = ("evaluate", saved_model, "-b", f"pope={folder}", "--out", out, "--way", "rank", "--threads", 1)
    failed = call(*words)
    assert failed.exit_code == 2 and "1 unreadable sample" in failed.output and "Traceback" not in failed.output
    assert not out.exists()
    done = call(*words, "--max-bad", 1)
    assert done.exit_code == 0 and "left out" in done.output, done.output
    results = json.loads((out / "results.json").read_text())
    assert results["left_out"] == {"n": 1, "file": "left_out.jsonl"} and results["asked"] == [f"pope={folder}"]
    (line,) = (out / "left_out.jsonl").read_text().splitlines()
    assert json.loads(line)["origin"].endswith("coco_pope_random.json:3")


def test_evaluate_refuses_before_it_loads_a_model(tmp_path):
    (tmp_path / "file").write_text("")
    for words, message in (
        (("-b", "pop=x"), "did you mean 'pope'"),
        (("-b", "vsr=x", "--protocol", "lmms-eval"), "vsr has only official, vlmevalkit"),
        (("-b", "x.jsonl", "--adapter", tmp_path / "none"), "adapter_config.json"),
        (("-b", "x.jsonl", "--out", tmp_path / "file" / "out"), "cannot be written to"),
        (("-b", "x.jsonl", "--against", tmp_path), "results.json is missing"),
    ):
        failed = call("evaluate", tmp_path / "no-model", *words)
        assert failed.exit_code == 2 and message in failed.output and "Traceback" not in failed.output, failed.output


def test_a_folder_without_an_adapter_or_runs_is_named(saved_model, tiny_samples, tmp_path):
    failed = call("evaluate", saved_model, "-b", tiny_samples(6), "--adapter", tmp_path / "none")
    assert failed.exit_code == 2 and "adapter_config.json" in failed.output and "Traceback" not in failed.output
    failed = call("report", tmp_path / "none")
    assert failed.exit_code == 2 and "evaluate at least one model" in failed.output


def test_check_prints_the_table_and_keeps_what_it_found(saved_model, tmp_path):
    done = call("check", saved_model, "--examples", 2, "--out", tmp_path / "found")
    assert done.exit_code == 0, done.output
    assert "teacher forcing" in done.output and "0 broken" in done.output
    written = json.loads((tmp_path / "found" / "check.json").read_text())
    assert written["broken"] == 0 and written["preset"] == "mixlora" and written["dtype"] == "float32"


def test_check_leaves_with_status_one_for_a_broken_rule(saved_model, tiny_samples, tmp_path):
    samples = tiny_samples(6)
    done = call("check", saved_model, "--preset", "mixlora-released", "--data", samples, "--out", tmp_path / "found")
    assert done.exit_code == 1, done.output
    assert "broken other answer tokens" in done.output and str(tmp_path / "found") in done.output.replace("\n", "")
    assert json.loads((tmp_path / "found" / "check.json").read_text())["broken"] > 3


def test_check_leaves_with_status_two_for_what_it_cannot_check(saved_model, tmp_path):
    for words, told in (
        (("--preset", "mixlor"), "did you mean 'mixlora'"),
        (("--data", "pocket/tests"), "is no pocket split"),
        (("--adapter", tmp_path), "adapter_config.json"),
        (("--tolerance", "-1"), "tolerance"),
    ):
        failed = call("check", saved_model, *words)
        assert failed.exit_code == 2 and told in failed.output and "Traceback" not in failed.output, failed.output


@pytest.mark.parametrize("compare", ["--compare", "--no-compare"])
def test_convert_makes_an_adapter_that_loads(tmp_path, compare):
    base = released_files.base()
    for part in (base, tiny_processor()):
        part.save_pretrained(tmp_path / "base")
    source = released_files.write_mole(tmp_path / "released", released_files.mole(base))
    words = ("convert", source, "--base", tmp_path / "base", "--out", tmp_path / "adapter", compare)
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert "preset llava-mole-released" in done.output and f"written to {tmp_path / 'adapter'}" in done.output
    assert ("checked" in done.output) and json.loads((tmp_path / "adapter" / "conversion.json").read_text())["used"]
    load_adapter(base, tmp_path / "adapter")
    again = call(*words)
    assert again.exit_code == 2 and "exists already" in again.output and "Traceback" not in again.output


def test_convert_names_what_it_cannot_read(saved_model, tmp_path):
    failed = call("convert", tmp_path / "none", "--base", saved_model, "--out", tmp_path / "adapter")
    assert failed.exit_code == 2 and "none" in failed.output and "Traceback" not in failed.output
    failed = call("convert", tmp_path, "--base", "no/such", "--no-compare", "--out", tmp_path / "adapter")
    assert failed.exit_code == 2 and "no/such" in failed.output and "Traceback" not in failed.output


@pytest.fixture
def compare_file(saved_model, recipe_file, tmp_path):
    samples = str(tmp_path / "tiny" / "samples.jsonl")
    path = tmp_path / "compare.yaml"
    path.write_text(
        f"output_dir: {tmp_path / 'out'}\nbase:\n  recipe: recipe.yaml\n  model: {{name_or_path: {saved_model}}}\n"
        f"evaluate: {{benchmarks: {samples}}}\nseeds: [0]\narms:\n  lora: {{adapter: {{preset: lora, r: 2}}}}\n"
    )
    return path


def test_compare_tells_its_plan(compare_file, tmp_path):
    done = call("compare", compare_file, "seeds=[0,1]", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "2 runs; nothing was kept" in done.output and "checking lora seed 0" in done.output
    assert not (tmp_path / "out").exists()


def test_compare_leaves_with_status_one_for_a_run_that_failed_and_two_for_what_cannot_be_run(compare_file, monkeypatch):
    failed = call("compare", compare_file, "sedes=[0]")
    assert failed.exit_code == 2 and "did you mean 'seeds'?" in failed.output and "Traceback" not in failed.output
    monkeypatch.setattr("mixtune.compare.pools.sys.executable", "/bin/false")  # stands for a run that fails
    failed = call("compare", compare_file)
    assert failed.exit_code == 1 and "failed: lora seed 0 (train): left with 1; see " in failed.output
    assert "the same command repeats only what failed" in failed.output and "0 of 1" in failed.output


def test_evaluate_asks_one_task_alone(saved_model, tiny_samples, tmp_path):
    words = ("evaluate", saved_model, "-b", tiny_samples(6), "--out", tmp_path / "found", "--dtype", "float32")
    assert call(*words, "--task", "count").exit_code == 0
    assert set(json.loads((tmp_path / "found" / "results.json").read_text())["tasks"]) == {"count"}
