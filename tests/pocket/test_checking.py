"""`pocket` and `pocket/<split>` in `mixtune check`."""

from pathlib import Path

import pytest

from mixtune.check import CheckRequest
from mixtune.pocket import PocketPaths, checking, prepare


@pytest.fixture
def prepared(monkeypatch):
    """Paths as if everything were prepared already; the arguments of each preparation."""
    calls = []

    def suite(**options):
        calls.append(options)
        return PocketPaths(model=Path("/cache/model"), data=Path("/cache/data"))

    monkeypatch.setattr(checking, "prepare_pocket", suite)
    monkeypatch.setattr(prepare, "prepare_pocket", suite)
    monkeypatch.setattr(prepare, "prepare_mix", lambda mix: Path(f"/cache/data-{mix}"))
    return calls


def test_other_names_are_left_alone(prepared):
    request = CheckRequest(model="org/pocket", data="pocket.jsonl")
    assert checking.resolve_check(request) == request and prepared == []


def test_the_model_keeps_its_name_in_the_report(prepared):
    found = checking.resolve_check(CheckRequest(model="pocket", examples=2))
    assert (found.model, found.name, found.data, found.examples) == ("/cache/model", "pocket", None, 2)


@pytest.mark.parametrize(("split", "captions"), [("test_unseen", False), ("captions", True)])
def test_a_split_is_a_file(prepared, split, captions):
    found = checking.resolve_check(CheckRequest(model="other", data=f"pocket/{split}"))
    assert (found.model, found.data) == ("other", f"/cache/data/{split}.jsonl")
    assert prepared == [{"captions": captions}]


@pytest.mark.parametrize(("name", "file"), [("conflict", "train"), ("natural/validation", "validation")])
def test_a_mix_is_its_training_file_unless_a_split_is_named(prepared, name, file):
    found = checking.resolve_check(CheckRequest(model="other", data=f"pocket/{name}"))
    assert found.data == f"/cache/data-{name.partition('/')[0]}/{file}.jsonl" and prepared == []


def test_an_unknown_split_is_named_with_one_like_it(prepared):
    with pytest.raises(ValueError, match="did you mean 'test_seen'"):
        checking.resolve_check(CheckRequest(model="pocket", data="pocket/test_sen"))
    assert prepared == []
