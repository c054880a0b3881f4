"""Pocket names in recipes."""

from __future__ import annotations

import json

import pytest

from mixtune.config import DataSettings, ModelSettings, Recipe, SourceSettings, TrainSettings
from mixtune.pocket import model
from mixtune.pocket import prepare as module
from mixtune.pocket.data import FORMAT, MANIFEST
from mixtune.pocket.prepare import (
    SEED,
    TEST_PER_TASK,
    TRAIN_PER_TASK,
    PocketPaths,
    is_current,
    names_pocket,
    resolve,
)
from mixtune.pocket.tasks import TASKS


def recipe(name: str, *sources: str) -> Recipe:
    return Recipe(
        model=ModelSettings(name_or_path=name),
        data=DataSettings(sources=tuple(SourceSettings(path=path) for path in sources)),
        train=TrainSettings(output_dir="out", learning_rate=1e-3, stage="align"),
    )


def test_other_recipes_are_left_alone() -> None:
    plain = recipe("some/folder", "my/pocket/train.jsonl")
    assert not names_pocket(plain)
    assert resolve(plain) is plain


def test_names_become_places(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def prepared(**wanted):
        asked.update(wanted)
        return PocketPaths(model=tmp_path / "model", data=tmp_path / "data")

    monkeypatch.setattr(module, "prepare_pocket", prepared)
    found = resolve(recipe("pocket-unaligned", "pocket/captions", "mine.jsonl"))
    assert found.model.name_or_path == str(tmp_path / "model")
    assert [source.path for source in found.data.sources] == [str(tmp_path / "data" / "captions.jsonl"), "mine.jsonl"]
    assert asked["aligned"] is False and asked["captions"] is True


def test_an_unknown_split_names_the_near_one() -> None:
    with pytest.raises(ValueError, match=r"pocket/trian.*did you mean 'train'"):
        resolve(recipe("pocket", "pocket/trian"))


def test_data_of_other_tasks_or_counts_is_drawn_again(tmp_path) -> None:
    counts = {"format": FORMAT, "seed": SEED, "train_per_task": TRAIN_PER_TASK, "test_per_task": TEST_PER_TASK}
    manifest = {**counts, "captions": 0, "tasks": dict.fromkeys(TASKS)}
    assert not is_current(tmp_path, captions=0)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert is_current(tmp_path, captions=0) and not is_current(tmp_path, captions=10)
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "tasks": {"letter": None}}))
    assert not is_current(tmp_path, captions=0)


def test_the_models_folder_is_named_after_the_shipped_weights(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("projector", "feature_stats"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"first")
    monkeypatch.setattr(model, "WEIGHTS", tmp_path)
    before = [model.model_folder(tmp_path, aligned=aligned) for aligned in (True, False)]
    (tmp_path / "projector.safetensors").write_bytes(b"second")
    after = [model.model_folder(tmp_path, aligned=aligned) for aligned in (True, False)]
    assert before[0] != after[0] and before[1] == after[1]


def test_what_is_prepared_is_not_fetched_again(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "fetch_wheels", lambda *_, **__: pytest.fail("fetched"))
    root = tmp_path / "pocket"
    for file in (model.model_folder(root, aligned=True) / "model.safetensors", root / "data" / MANIFEST):
        file.parent.mkdir(parents=True)
        counts = {"format": FORMAT, "seed": SEED, "train_per_task": TRAIN_PER_TASK, "test_per_task": TEST_PER_TASK}
        file.write_text(json.dumps({**counts, "captions": 0, "tasks": dict.fromkeys(TASKS)}))
    assert module.prepare_pocket() == PocketPaths(model=model.model_folder(root, aligned=True), data=root / "data")
