"""Pocket names in recipes."""

from __future__ import annotations

import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from picture_wheels import write_picture_wheels

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
from mixtune.pocket.scenes import write_scenes
from mixtune.pocket.tasks import TASKS
from mixtune.pocket.tasks.families import FEW, MANY


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


def test_mixes_become_files(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare_pocket", lambda **_: PocketPaths(model=tmp_path, data=tmp_path / "data"))
    monkeypatch.setattr(module, "prepare_mix", lambda name, **_: tmp_path / f"data-{name}")
    names = ("conflict", "conflict-0.5/validation", "conflict-many/test", "natural", "natural/test_seen", "test_seen")
    found = resolve(recipe("pocket", *(f"pocket/{name}" for name in names)))
    assert [source.path for source in found.data.sources] == [
        str(tmp_path / place)
        for place in (
            "data-conflict/train.jsonl",
            "data-conflict-0.5/validation.jsonl",
            "data-conflict-many/test.jsonl",
            "data-natural/train.jsonl",
            "data-natural/test_seen.jsonl",
            "data/test_seen.jsonl",
        )
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conflikt", "no pocket split or mix; did you mean 'conflict'"),
        ("conflict-2", "between 0 and 1, not 2"),
        ("conflict-0.5/tset", "'tset' is no split of conflict-0.5; did you mean 'test'"),
        ("natural/test", "'test' is no split of natural; did you mean 'test_seen'"),
    ],
)
def test_a_wrong_mix_is_named_before_anything_is_fetched(name, message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare_pocket", lambda **_: pytest.fail("prepared"))
    with pytest.raises(ValueError, match=rf"data.sources.path: 'pocket/{name}': .*{message}"):
        resolve(recipe("pocket", f"pocket/{name}"))


@pytest.fixture
def drawn(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """An empty home, small parts and stand-ins for the packages; the list of families drawn."""
    calls = []
    wheels = write_picture_wheels(tmp_path)

    def counted(out, family, *rest, **more):
        calls.append(family.name)
        return write_scenes(out, family, *rest, **more, parts={"train": 2, "validation": 1, "test": 1})

    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "fetch_wheels", lambda *_, **__: wheels)
    monkeypatch.setattr(module, "write_scenes", counted)
    return calls


def test_pictures_are_drawn_once_for_all_strengths(drawn) -> None:
    few, many = ([family.name for family in families] for families in (FEW, MANY))
    folders = [module.prepare_mix(name) for name in ("conflict", "conflict-0.5", "conflict-0")]
    assert drawn == few
    assert len({(folder / "train.jsonl").read_text() for folder in folders}) == 3
    module.prepare_mix("conflict-many")
    assert drawn == many
    before = (folders[0] / MANIFEST).stat().st_mtime_ns
    assert module.prepare_mix("conflict-1.0") == folders[0]
    assert drawn == many and (folders[0] / MANIFEST).stat().st_mtime_ns == before
    manifest = json.loads((folders[0] / MANIFEST).read_text())
    (folders[0] / MANIFEST).write_text(json.dumps({**manifest, "pictures": {}}))
    module.prepare_mix("conflict")
    assert json.loads((folders[0] / MANIFEST).read_text()) == manifest, "made of other pictures, so made again"


@pytest.mark.parametrize("name", ["conflict", "natural"])
def test_commands_that_need_the_same_mix_first_make_it_once(name, drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    started, waiting, written = threading.Event(), threading.Event(), []
    write_natural, write_conflict = module.write_natural_data, module.write_mix

    def slow(write, *given, **more):
        written.append(name)
        started.set()
        assert waiting.wait(20), "the other command has to wait while this one writes"
        return write(*given, **more)

    monkeypatch.setattr(module, "NATURAL_COUNTS", dict.fromkeys(module.NATURAL_COUNTS, 1))
    monkeypatch.setattr(module, "write_natural_data", functools.partial(slow, write_natural))
    monkeypatch.setattr(module, "write_mix", functools.partial(slow, write_conflict))

    def second() -> Path:
        assert started.wait(20)
        return module.prepare_mix(name, say=lambda text: waiting.set() if "another process" in text else None)

    with ThreadPoolExecutor(2) as pool:
        folders = [pool.submit(module.prepare_mix, name), pool.submit(second)]
    assert folders[0].result() == folders[1].result() and written == [name]
    assert len(drawn) == len(set(drawn))


def test_commands_that_need_the_model_first_make_it_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, waiting, made = threading.Event(), threading.Event(), []

    def make(paths, wheels, aligned, captions) -> None:
        made.append(paths)
        started.set()
        assert waiting.wait(20), "the other command has to wait while this one converts"
        paths.model.mkdir(parents=True)

    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "fetch_wheels", lambda *_, **__: {})
    monkeypatch.setattr(module, "is_prepared", lambda folder: folder.exists())
    monkeypatch.setattr(module, "is_current", lambda data, **_: True)
    monkeypatch.setattr(module, "_make_pocket", make)

    def second() -> PocketPaths:
        assert started.wait(20)
        return module.prepare_pocket(say=lambda text: waiting.set() if "another process" in text else None)

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(module.prepare_pocket), pool.submit(second)]
    assert found[0].result() == found[1].result() and len(made) == 1


def test_the_natural_mix_is_drawn_once(drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train_per_task": 1, "validation_per_task": 2, "test_per_task": 1}
    monkeypatch.setattr(module, "NATURAL_COUNTS", counts)
    folder = module.prepare_mix("natural")
    manifest = json.loads((folder / MANIFEST).read_text())
    assert {key: manifest[key] for key in counts} == counts
    monkeypatch.setattr(module, "fetch_wheels", lambda *_, **__: pytest.fail("fetched"))
    assert module.prepare_mix("natural") == folder


def test_no_such_mix() -> None:
    with pytest.raises(ValueError, match="'naturel' is no mix of the pocket suite; did you mean 'natural'"):
        module.prepare_mix("naturel")


def test_every_task_has_enough_questions() -> None:
    assert module.NATURAL_COUNTS == {"train_per_task": 600, "validation_per_task": 100, "test_per_task": 300}
