"""What `pocket` means to an analysis."""

import json

import pytest

from mixtune.analyse.subject import AnalysisRequest
from mixtune.pocket import analysing, prepare
from mixtune.pocket.prepare import PocketPaths


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A prepared suite with one task."""
    (tmp_path / "data.json").write_text(json.dumps({"tasks": {"clock": {"domain": "science", "split": "unseen"}}}))
    paths = PocketPaths(model=tmp_path / "model", data=tmp_path)
    monkeypatch.setattr(analysing, "prepare_pocket", lambda: paths)
    monkeypatch.setattr(prepare, "prepare_pocket", lambda captions=False: paths)
    monkeypatch.setattr(prepare, "prepare_mix", lambda mix: tmp_path)
    return paths


def test_names_become_files_with_domains(prepared) -> None:
    asked = AnalysisRequest(model="pocket", data=("pocket/train", "mine.jsonl"), unseen=("pocket/test_unseen",))
    found = analysing.resolve_analysis(asked)
    assert (found.model, found.name) == (str(prepared.model), "pocket")
    assert found.data == (str(prepared.data / "train.jsonl"), "mine.jsonl")
    assert found.unseen == (str(prepared.data / "test_unseen.jsonl"),)
    assert found.describe()["data"] == ["pocket/train", "mine.jsonl", "pocket/test_unseen"]
    assert (found.places["clock"].domain, found.places["clock"].split) == ("science", "unseen")


def test_a_mix_is_its_training_file_unless_a_split_is_named(prepared) -> None:
    asked = AnalysisRequest(model="other", data=("pocket/conflict-0.5", "pocket/natural/validation"))
    found = analysing.resolve_analysis(asked)
    assert found.data == (str(prepared.data / "train.jsonl"), str(prepared.data / "validation.jsonl"))
    assert found.model == "other"


def test_other_models_and_files_stay_as_they_are() -> None:
    asked = AnalysisRequest(model="my-model", data=("mine.jsonl",))
    assert analysing.resolve_analysis(asked) == asked


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ValueError, match="'pocket/tran': is no pocket split or mix; did you mean 'train'"):
        analysing.resolve_analysis(AnalysisRequest(model="pocket", data=("pocket/tran",)))
