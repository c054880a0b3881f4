"""A dry run checks every arm and leaves nothing."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from compare.comparisons import NAMES, comparison, write
from mixtune.cli import app
from mixtune.compare import Plan, dryrun, load_comparison
from mixtune.compare.dryrun import dry_run


def told(root, settings):
    console = Console(width=80, file=io.StringIO())
    dry_run(Plan(load_comparison(write(root, settings)), NAMES, Path(settings["output_dir"])), NAMES, console)
    return console.file.getvalue()


def test_the_plan_is_told_and_nothing_is_kept(tmp_path):
    arms = {"lora": {"adapter": {"preset": "lora"}}, "equal": {"adapter": {"preset": "lora"}, "budget": "2500"}}
    settings = comparison(tmp_path, arms=arms, search={"grid": {"scaling": [1.0, 2.0]}})
    settings["evaluate"]["validation"] = [str(tmp_path / "validation" / "samples.jsonl")]
    text = told(tmp_path, settings)
    assert "questions: 12 of 2 task(s)" in text and "validation: 8 of 2 task(s)" in text
    assert "checking lora seed 0" in text and "checking equal seed 0" in text
    assert "r = 2 (gap " in text and "8 runs; nothing was kept" in text
    assert not (tmp_path / "out").exists()


def test_an_arm_that_cannot_train_is_named(tmp_path):
    arms = {"lora": {"adapter": {"preset": "lora"}}, "odd": {"data": {"sampling": "weights", "weights": {"colr": 1.0}}}}
    with pytest.raises(ValueError, match="colr"):
        told(tmp_path, comparison(tmp_path, arms=arms))


@pytest.mark.parametrize(("words", "expected"), [(["--threads", "3"], 3), (["--ray", "local"], 1)])
def test_steps_are_timed_with_the_threads_that_runs_will_have(tmp_path, monkeypatch, words, expected):
    before, seen = torch.get_num_threads(), []

    def rehearse(recipe, say):
        seen.append(torch.get_num_threads())
        return {"seconds": 1.0, "samples": 2}

    monkeypatch.setattr(dryrun, "rehearse", rehearse)
    path = write(tmp_path, comparison(tmp_path, arms={"lora": {"adapter": {"preset": "lora"}}}))
    try:
        done = CliRunner().invoke(app, ["compare", str(path), "--dry-run", *words])
    finally:
        torch.set_num_threads(before)
    assert done.exit_code == 0 and seen == [expected]
