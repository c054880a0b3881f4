"""Pocket names in recipes."""

from __future__ import annotations

import pytest

from mixtune.config import DataSettings, ModelSettings, Recipe, SourceSettings, TrainSettings
from mixtune.pocket import prepare as module
from mixtune.pocket.prepare import PocketPaths, names_pocket, resolve


def recipe(model: str, *sources: str) -> Recipe:
    return Recipe(
        model=ModelSettings(name_or_path=model),
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
