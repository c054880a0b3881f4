"""The analyses as a user calls them."""

import json

import pytest
from typer.testing import CliRunner

from mixtune.analyse.interference import results
from mixtune.analyse.routing import run
from mixtune.cli import app


def call(*words):
    return CliRunner().invoke(app, ["analyse", *map(str, words)], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def saved_model(tiny_llava, tmp_path):
    for part in tiny_llava():
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_interference_of_a_fresh_adapter(saved_model, tiny_samples, tmp_path) -> None:
    out = tmp_path / "found"
    words = ("--data", tiny_samples(24), "--blocks", 2, "--layers", "deep", "--resamples", 100, "--dtype", "float32")
    done = call("interference", saved_model, *words, "--out", out)
    assert done.exit_code == 0, done.output
    assert "12 samples" not in done.output and "24 samples" in done.output and "LoRA B, deep" in done.output
    written = json.loads((out / "interference.json").read_text(encoding="utf-8"))
    assert (written["format"], written["preset"], written["adapter"]) == (results.FORMAT, "lora", None)
    groups = {(group["side"], group["name"]): group for group in written["groups"]}
    tasks = [task["name"] for task in written["tasks"]]
    assert groups["A", "all"]["undecided"] == tasks, "while B is zero nothing pulls at A"
    assert groups["A", "all"]["score"]["value"][0][1] is None
    assert groups["B", "all"]["score"]["value"][0][1] is not None
    assert (out / "interference.png").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "LoRA B: deep (layer 1)" in page and "<title>Do the tasks fight? · mixtune</title>" in page
    assert not (out / "parts").exists(), "they are needed no more"
    again = call("interference", saved_model, *words, "--out", out)
    assert again.exit_code == 0 and "holds this measurement already" in again.output and not (out / "parts").exists()
    repeated = json.loads((out / "interference.json").read_text(encoding="utf-8"))
    assert repeated["groups"] == written["groups"] and repeated["seconds"] == written["seconds"]
    other = call("interference", saved_model, *words, "--out", out, "--seed", 1, "--keep-parts")
    assert other.exit_code == 0 and "already" not in other.output and (out / "parts" / "plan.json").exists()
    assert "replaces" in other.output and "removes" not in other.output
    third = call("interference", saved_model, *words, "--out", out, "--seed", 2)
    assert third.exit_code == 0 and "replaces" in third.output and "removes    3 parts" in third.output


def test_routing_of_a_fresh_adapter(saved_model, tiny_samples, tmp_path) -> None:
    out = tmp_path / "found"
    words = (
        "--data",
        tiny_samples(12),
        "--preset",
        "llava-mole",
        "--dtype",
        "float32",
        "--neighbours",
        2,
        "--redraws",
        2,
    )
    done = call("routing", saved_model, *words, "--out", out)
    assert done.exit_code == 0, done.output
    assert "untrained" in done.output and "task information" in done.output
    written = json.loads((out / "routing.json").read_text(encoding="utf-8"))
    assert (written["format"], written["routes"], written["samples"]) == (run.FORMAT, "tokens", 12)
    assert all((out / name).exists() for name in ("routing.png", "selections.safetensors"))
    assert "untrained (control)" in (out / "report.html").read_text(encoding="utf-8")


def test_mistakes_are_told_without_a_traceback(saved_model, tiny_samples) -> None:
    data = tiny_samples(12)
    for words, told in (
        (("interference", "--layers", "deeep"), "'deeep' is none of shallow, middle, deep, all"),
        (("interference", "--tasks", "colur"), "did you mean 'colour'"),
        (("interference", "--blocks", "9"), "too few have: colour (4)"),
        (("routing", "--preset", "lora"), "routes nothing"),
    ):
        failed = call(words[0], saved_model, "--data", data, *words[1:])
        assert failed.exit_code == 2 and told in failed.output and "Traceback" not in failed.output, failed.output
