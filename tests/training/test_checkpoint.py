"""A run killed with SIGKILL at any step resumes to the same bits; checkpoints are whole or absent."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import kill_driver
from mixtune.training import checkpoint as store
from mixtune.training.checkpoint import CheckpointError
from mixtune.training.logfile import LOG_FILE, read_log
from mixtune.training.routing_log import ROUTING_FILE
from runs import tiny_recipe
from tolerances import TOL


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, str(Path(kill_driver.__file__)), str(root)],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def results(driven):
    return driven["killed"]


@pytest.mark.parametrize("scenario", kill_driver.SCENARIOS)
def test_a_killed_run_ends_in_the_same_bits_and_the_same_log(results, scenario):
    found = results[scenario]
    assert found["killed"] and all(status == signal.SIGKILL for status in found["killed"])
    assert found["finished"] == 0
    assert found["differing"] == []
    assert found["same_log"]
    assert found["hidden"] == []


def test_what_a_kill_leaves_is_whole_checkpoints(results):
    left = {name: found["left"] for name, found in results.items()}
    assert left["before the first checkpoint"] == []
    assert left["right after a checkpoint"] == ["checkpoint-3"]
    assert left["while a checkpoint is written"] == ["checkpoint-3"]
    assert left["before a checkpoint is renamed"] == ["checkpoint-3"]
    assert left["while an old checkpoint is deleted"] == ["checkpoint-6", "checkpoint-9"]
    assert left["after the last checkpoint"] == ["checkpoint-9", "checkpoint-12"]


def test_two_processes_train_as_one_does(driven):
    assert driven["pair"]["finished"] == [0, 0]
    alone, together = (Path(folder) for folder in driven["pair"]["folders"])
    left, right = (load_file(folder / "adapter_model.safetensors") for folder in (alone, together))
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(
            right[name], value, **TOL[torch.float32], msg=lambda text, name=name: f"{name}: {text}"
        )
    logs = [read_log(folder / LOG_FILE) for folder in (alone, together)]
    assert [(r["step"], r["tokens"], r["task_samples"]) for r in logs[0]] == [
        (r["step"], r["tokens"], r["task_samples"]) for r in logs[1]
    ]
    assert [r["loss"] for r in logs[0]] == pytest.approx([r["loss"] for r in logs[1]], abs=1e-5)
    assert (together / "checkpoint-12" / "rng_state_1.pth").exists()


def test_two_processes_count_their_routing_together(driven):
    alone, together = (read_log(Path(folder) / ROUTING_FILE) for folder in driven["pair"]["folders"])
    assert len(alone) == len(together) == 6
    for left, right in zip(alone, together, strict=True):
        assert left["step"] == right["step"] and left["tasks"].keys() == right["tasks"].keys()
        assert left["dead_share"] == pytest.approx(right["dead_share"], abs=1e-4)
        assert left["entropy"] == pytest.approx(right["entropy"], abs=1e-4)


def make_checkpoint(folder, number, recipe=None, fingerprint="f"):
    made = folder / f"checkpoint-{number}"
    made.mkdir(parents=True)
    (made / store.STATE_FILE).write_text(json.dumps({"sampler": {"fingerprint": fingerprint}}))
    if recipe:
        store.record_recipe(folder, recipe)
    return made


def test_rotation_keeps_the_newest_by_number(tmp_path):
    for number in (5, 10, 100, 20):
        make_checkpoint(tmp_path, number)
    store.rotate(tmp_path, 2)
    assert [path.name for path in store.list_checkpoints(tmp_path)] == ["checkpoint-20", "checkpoint-100"]
    store.rotate(tmp_path, None)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_draft_replaces_an_older_checkpoint_whole(tmp_path):
    make_checkpoint(tmp_path, 3)
    draft = tmp_path / f"{store.DRAFT}checkpoint-3" / "checkpoint-3"
    draft.mkdir(parents=True)
    (draft / "new").write_text("x")
    store.publish(draft, tmp_path / "checkpoint-3")
    assert [path.name for path in (tmp_path / "checkpoint-3").iterdir()] == ["new"]


def test_leftovers_of_a_kill_are_no_checkpoints_and_are_removed(tmp_path):
    (tmp_path / f"{store.DRAFT}checkpoint-7" / "checkpoint-7").mkdir(parents=True)
    (tmp_path / f"{store.DOOMED}checkpoint-2").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert store.list_checkpoints(tmp_path) == []
    store.clean_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-best"]


def test_a_changed_recipe_is_refused_by_the_fields_that_changed(tmp_path):
    data = tmp_path / "data.jsonl"
    make_checkpoint(tmp_path / "run", 3, tiny_recipe(data, tmp_path / "run"))
    changed = tiny_recipe(data, tmp_path / "run", learning_rate=0.5, seed=3)
    with pytest.raises(CheckpointError) as caught:
        store.check_same_recipe(tmp_path / "run", changed)
    assert "train.learning_rate: was 0.01, now 0.5" in str(caught.value)
    assert "train.seed: was 0, now 3" in str(caught.value)
    assert str(caught.value).count("was") == 2


def test_what_no_weight_depends_on_may_change(tmp_path):
    data = tmp_path / "data.jsonl"
    old = tiny_recipe(data, tmp_path / "run")
    new = tiny_recipe(data, tmp_path / "moved", save_steps=50, save_total_limit=None, report_to=("tensorboard",))
    assert store.changed_fields(old, new) == []


def test_other_data_is_refused(tmp_path):
    made = make_checkpoint(tmp_path, 3, fingerprint="old")
    store.check_same_data(made, "old")
    with pytest.raises(
        CheckpointError, match=r"checkpoint-3: was trained on other data \(data\.sources: .*old, now new"
    ):
        store.check_same_data(made, "new")


def test_a_damaged_state_file_is_named(tmp_path):
    made = make_checkpoint(tmp_path, 3)
    (made / store.STATE_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=store.STATE_FILE):
        store.check_same_data(made, "f")


def test_a_folder_that_cannot_be_written_is_refused_and_nothing_made(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CheckpointError, match=r"train\.output_dir: '.*file/run' cannot be written to"):
        store.check_writable(blocked / "run")
    store.check_writable(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_too_little_disk_is_refused_with_both_numbers(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3 * 2**30))
    store.check_disk(tmp_path / "run", parameters=80_000_000, checkpoints=3)
    with pytest.raises(
        CheckpointError, match=r"3\.00 GiB free but the run needs 3\.48 GiB: 3 checkpoints of 100,000,000"
    ):
        store.check_disk(tmp_path / "run", parameters=100_000_000, checkpoints=3)
