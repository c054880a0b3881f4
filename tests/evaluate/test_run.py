"""A whole evaluation: what it writes, that batches do not matter, that it goes on after a kill."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from PIL import Image

from mixtune.config import DataSettings, SourceSettings
from mixtune.data import Message, read_samples
from mixtune.evaluate import EvaluateSettings, TaskGroup, answering, evaluate
from mixtune.evaluate.run import fingerprint
from routed import adapted
from tiny import tiny_llava, tiny_processor

FACTS = {"id", "task", "domain", "split", "image", "prompt", "target", "options"}
ANSWERS = {"ranked", "scores", "rank_correct", "answer", "greedy_correct", "score"}


def read(path):
    return read_samples(DataSettings(sources=(SourceSettings(path=str(path)),)))[0]


def comparable(rows):
    """Rows without their scores, and the scores as one tensor."""
    plain = [{key: value for key, value in row.items() if key != "scores"} for row in rows]
    return plain, torch.tensor([score for row in rows for score in row["scores"]])


@pytest.mark.parametrize("preset", ["untuned", "mixlora"])
def test_batch_size_changes_no_answer(preset, tiny_samples, tmp_path) -> None:
    samples = read(tiny_samples(12))
    model = tiny_llava()[0] if preset == "untuned" else adapted(preset)
    runs = [
        evaluate(model, tiny_processor(), samples, EvaluateSettings(batch_size=size), tmp_path / str(size))
        for size in (1, 5, 12)
    ]
    alone, scores = comparable(runs[0].rows)
    for run in runs[1:]:
        together, others = comparable(run.rows)
        assert together == alone
        torch.testing.assert_close(others, scores, atol=1e-5, rtol=1e-5)


def test_a_model_that_draws_its_routing_answers_alike_each_time(tiny_samples, tmp_path) -> None:
    samples, model = read(tiny_samples(12)), adapted("mixlora", random_routing=True)
    settings, state = EvaluateSettings(batch_size=5), torch.get_rng_state()
    first, second = (evaluate(model, tiny_processor(), samples, settings, tmp_path / name) for name in ("a", "b"))
    assert first.rows == second.rows
    assert torch.equal(torch.get_rng_state(), state), "and nobody else's numbers are drawn"
    other = evaluate(model, tiny_processor(), samples, EvaluateSettings(batch_size=4), tmp_path / "c")
    assert not torch.equal(comparable(other.rows)[1], comparable(first.rows)[1]), "it does draw"


def test_files_hold_what_they_say(tiny_samples, tmp_path) -> None:
    samples = read(tiny_samples(12))
    groups = {"colour": TaskGroup(domain="tiny"), "count": TaskGroup(domain="tiny", split="unseen")}
    model = tiny_llava()[0].train()
    about = {"model": "tiny", "adapter": None}
    found = evaluate(model, tiny_processor(), samples, EvaluateSettings(), tmp_path, groups, about)
    assert model.training
    assert json.loads((tmp_path / "results.json").read_text()) == found.results
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == sorted(sample.id for sample in samples)
    assert set(rows[0]) == FACTS | ANSWERS
    assert found.results["model"] == "tiny"
    assert set(found.results["summary"]) == {"seen", "unseen"}
    task = found.results["tasks"]["count"]
    assert (task["domain"], task["split"], task["n"]) == ("tiny", "unseen", 4)
    assert task["chance"] == pytest.approx(1 / 3)
    right = [row["rank_correct"] for row in rows if row["task"] == "count"]
    assert task["rank"]["accuracy"] == sum(right) / 4
    assert task["rank"]["low"] <= task["rank"]["accuracy"] <= task["rank"]["high"]
    assert all(row["ranked"] == row["options"][row["scores"].index(max(row["scores"]))] for row in rows)


class Killed(Exception):
    """Stands for a kill between two batches."""


def test_a_killed_evaluation_goes_on_and_repeats_nothing(tiny_samples, tmp_path, monkeypatch) -> None:
    samples, settings = read(tiny_samples(12)), EvaluateSettings(batch_size=4)
    model = adapted("mixlora")
    whole = evaluate(model, tiny_processor(), samples, settings, tmp_path / "whole")
    asked: list[str] = []
    real = answering.Answerer.rows

    def counted(self, batch):
        if len(asked) >= 8 and not asked[-1].endswith("!"):
            asked[-1] += "!"
            raise Killed
        asked.extend(sample.id for sample in batch)
        return real(self, batch)

    monkeypatch.setattr(answering.Answerer, "rows", counted)
    with pytest.raises(Killed):
        evaluate(model, tiny_processor(), samples, settings, tmp_path / "killed")
    assert not (tmp_path / "killed" / "results.json").exists()
    with (tmp_path / "killed" / "samples.jsonl").open("a") as file:
        file.write('{"id": "half a li')
    resumed = evaluate(model, tiny_processor(), samples, settings, tmp_path / "killed")
    assert sorted(name.rstrip("!") for name in asked) == sorted(sample.id for sample in samples)
    assert resumed.rows == whole.rows
    assert resumed.results["tasks"] == whole.results["tasks"]
    for name in ("samples.jsonl", "usage.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_evaluation_asks_nothing_again(tiny_samples, tmp_path, monkeypatch) -> None:
    samples, settings = read(tiny_samples(6)), EvaluateSettings(batch_size=4)
    first = evaluate(tiny_llava()[0], tiny_processor(), samples, settings, tmp_path)
    monkeypatch.setattr(answering.Answerer, "rows", None)
    again = evaluate(tiny_llava()[0], tiny_processor(), samples, settings, tmp_path)
    assert again.rows == first.rows


def test_another_batch_size_or_picture_is_another_evaluation(tiny_samples, tmp_path) -> None:
    samples, model = read(tiny_samples(6)), tiny_llava()[0]
    before = fingerprint(model, samples, EvaluateSettings(batch_size=4), {})
    assert before == fingerprint(model, samples, EvaluateSettings(batch_size=4, confidence=0.9, max_length=4096), {})
    assert before != fingerprint(model, samples, EvaluateSettings(batch_size=2), {})
    Image.new("RGB", (9, 9)).save(str(samples[0].images[0]))
    assert before != fingerprint(model, samples, EvaluateSettings(batch_size=4), {})


@pytest.mark.parametrize("change", ["weights", "settings", "samples"])
def test_anything_that_changes_answers_is_an_error_or_starts_anew(change, tiny_samples, tmp_path) -> None:
    samples, settings, model = read(tiny_samples(6)), EvaluateSettings(), tiny_llava()[0]
    first = evaluate(model, tiny_processor(), samples, settings, tmp_path)
    if change == "weights":
        with torch.no_grad():
            model.lm_head.weight.add_(torch.randn_like(model.lm_head.weight))
    settings = EvaluateSettings(max_new_tokens=3) if change == "settings" else settings
    samples = samples[:4] if change == "samples" else samples
    named = {
        "weights": "weights: was",
        "settings": "settings.max_new_tokens: was 8, now 3",
        "samples": "samples: was 6",
    }
    with pytest.raises(ValueError, match=named[change]):
        evaluate(model, tiny_processor(), samples, settings, tmp_path)
    settings = settings.model_copy(update={"resume": False})
    again = evaluate(model, tiny_processor(), samples, settings, tmp_path)
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert len(lines) == len(again.rows) == len(samples)
    assert (again.rows == first.rows[: len(again.rows)]) == (change == "samples")


def test_one_way_of_answering_is_enough(tiny_samples, tmp_path) -> None:
    samples = read(tiny_samples(3))
    free = [dataclasses.replace(sample, options=()) for sample in samples]
    found = evaluate(tiny_llava()[0], tiny_processor(), free, EvaluateSettings(rank=True), tmp_path / "free")
    assert all(task["rank"] is None and task["chance"] is None for task in found.results["tasks"].values())
    assert found.results["summary"]["seen"]["rank"] is None
    found = evaluate(tiny_llava()[0], tiny_processor(), samples, EvaluateSettings(greedy=False), tmp_path / "ranked")
    assert found.results["summary"]["seen"]["greedy"] is None
    assert "answer" not in found.rows[0]


def test_samples_that_cannot_be_scored_are_all_named(tiny_samples, tmp_path) -> None:
    samples = read(tiny_samples(6))
    samples[1] = dataclasses.replace(samples[1], options=("maybe", "perhaps"))
    samples[2] = dataclasses.replace(samples[2], options=("2", "2.", "1", "3"))
    samples[3] = dataclasses.replace(samples[3], id=samples[0].id)
    samples[4] = dataclasses.replace(samples[4], messages=(*samples[4].messages, Message("user", "and now?")))
    with pytest.raises(ValueError) as caught:
        evaluate(tiny_llava()[0], tiny_processor(), samples, EvaluateSettings(), tmp_path)
    text = str(caught.value)
    for line in (2, 3, 4, 5):
        assert f"samples.jsonl:{line}: " in text
    assert not list(tmp_path.glob("results.json"))
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(tiny_llava()[0], tiny_processor(), [], EvaluateSettings(), tmp_path)
