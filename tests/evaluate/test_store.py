"""The output folder: torn lines, broken lines, other fingerprints, atomic files."""

import json

import pytest
import torch

from mixtune.evaluate.store import SampleStore, read_lines, weights_digest, write_json
from tiny import tiny_llava


def test_rows_come_back_and_a_torn_line_is_dropped(tmp_path) -> None:
    store = SampleStore(tmp_path, "f")
    store.append([{"id": "a"}, {"id": "ü"}])
    store.note(layers=["x"])
    with (tmp_path / "samples.jsonl").open("ab") as file:
        file.write(b'{"id": "c')
    again = SampleStore(tmp_path, "f")
    assert list(again.done) == ["a", "ü"]
    assert again.header["layers"] == ["x"]
    again.append([{"id": "c"}])
    assert [row["id"] for row in read_lines(tmp_path / "samples.jsonl")] == ["a", "ü", "c"]


def test_another_evaluation_is_an_error_that_says_what_differs(tmp_path) -> None:
    SampleStore(tmp_path, "f", {"parts": {"weights": "aa", "settings.rank": True}}).append([{"id": "a"}])
    parts = {"weights": "bb", "settings.rank": True, "samples": "3 (cc)"}
    with pytest.raises(ValueError) as caught:
        SampleStore(tmp_path, "g", {"parts": parts})
    text = str(caught.value)
    assert "holds another evaluation" in text and "--no-resume" in text
    assert "weights: was aa, now bb" in text and "samples: was not recorded, now 3 (cc)" in text
    assert "settings.rank" not in text
    assert [row["id"] for row in read_lines(tmp_path / "samples.jsonl")] == ["a"]


def test_a_folder_without_answers_is_nobodys(tmp_path) -> None:
    SampleStore(tmp_path, "f")
    assert SampleStore(tmp_path, "g").header["fingerprint"] == "g"


def test_without_resume_answers_are_discarded(tmp_path) -> None:
    SampleStore(tmp_path, "f").append([{"id": "a"}])
    for name in ("results.json", "against.json"):
        write_json(tmp_path / name, {})
    assert not SampleStore(tmp_path, "f", {"settings": 1}, resume=False).done
    assert not (tmp_path / "against.json").exists()
    store = SampleStore(tmp_path, "g", {"settings": 1}, resume=False)
    assert not store.done
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"settings": 1, "fingerprint": "g"}
    assert not (tmp_path / "results.json").exists()


def test_a_broken_line_is_named(tmp_path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"id": 1}\nnonsense\n{"id": 2}\n')
    with pytest.raises(ValueError, match=r"samples\.jsonl:2: not JSON"):
        read_lines(tmp_path / "samples.jsonl")


def test_a_value_json_has_no_word_for_leaves_the_old_file(tmp_path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_digest_tells_weights_apart() -> None:
    model, same, other = tiny_llava()[0], tiny_llava()[0], tiny_llava(1)[0]
    assert weights_digest(model) == weights_digest(same) != weights_digest(other)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.weight += 1e-3
    assert weights_digest(model) != weights_digest(same)
