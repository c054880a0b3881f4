"""`run_check` on a saved model: the user's samples or random ones, an adapter from a file or a fresh one."""

import json

import pytest
import torch

from mixtune import get_peft_model
from mixtune.check import CHECKS, CheckReport, CheckRequest, RuleResult, run_check
from mixtune.check.run import exact_convolutions
from routed import config, randomise


@pytest.fixture
def saved_model(tiny_llava, tmp_path):
    model, processor = tiny_llava()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_fresh_adapter_on_random_samples(saved_model):
    seen = []
    report = run_check(CheckRequest(model=saved_model, preset="llava-mole", examples=2), seen.append)
    assert report.results == tuple(seen) and len(seen) == len(CHECKS)
    assert not report.broken and {each.tolerance for each in seen} == {0.0, 1e-4}


def test_a_tuned_adapter_on_own_samples(saved_model, tiny_llava, tiny_samples, tmp_path):
    model = get_peft_model(tiny_llava()[0], config("mixlora-released"))
    randomise(model)
    model.save_pretrained(tmp_path / "adapter")
    request = CheckRequest(model=saved_model, adapter=tmp_path / "adapter", data=str(tiny_samples(6)), examples=3)
    report = run_check(request)
    assert {each.rule[0] for each in report.broken} == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("change", "told"),
    [({"preset": "mixlor"}, "did you mean 'mixlora'"), ({"data": "none.jsonl"}, "none.jsonl"),
     ({"adapter": "none"}, "adapter_config.json"), ({"model": "none"}, "none")],
)  # fmt: skip
def test_what_is_missing_is_named(saved_model, change, told):
    with pytest.raises(ValueError, match=told):
        run_check(CheckRequest.model_validate({"model": saved_model, **change}))


def test_the_report_is_written_whole_and_without_numbers_that_are_none(tmp_path):
    results = (
        RuleResult(rule="1 prompt only", check="one", kept=False, difference=float("inf"), reason="not finite"),
        RuleResult(rule="1 prompt only", check="two", kept=None, reason="why"),
    )
    report = CheckReport(
        request=CheckRequest(model="/cache/x", name="pocket"), environment={"torch": "1"}, seconds=1.23, results=results
    )
    assert report.broken == [results[0]]
    written = json.loads(report.write(tmp_path / "new").read_text())
    assert written["model"] == "pocket" and written["broken"] == 1 and written["environment"] == {"torch": "1"}
    assert written["results"][0]["difference"] is None and written["results"][1]["kept"] is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["check.json"]


def test_convolutions_are_exact_during_the_check_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with pytest.raises(KeyError), exact_convolutions():
        assert not torch.backends.cudnn.allow_tf32
        raise KeyError
    assert torch.backends.cudnn.allow_tf32
