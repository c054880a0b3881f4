"""The whole analysis on the tiny model: its file, its pictures, and going on after a kill."""

import json

import pytest

from mixtune.analyse.interference import InterferenceSettings, measure, run
from mixtune.analyse.interference.measuring import Measurer
from mixtune.analyse.interference.pictures import shown_values, write_picture
from mixtune.analyse.interference.results import verdict
from mixtune.analyse.subject import AnalysisRequest, Subject, read_tasks, surroundings
from routed import adapted
from tiny import TASKS, tiny_processor, tiny_samples

SETTINGS = InterferenceSettings(layers="shallow,deep", blocks=2, resamples=100, batch_size=8)


@pytest.fixture
def subject(tmp_path) -> Subject:
    tasks = read_tasks(AnalysisRequest(model="tiny", data=(str(tiny_samples(tmp_path / "data", 24)),)))
    return Subject(model=adapted("mixlora").requires_grad_(False), processor=tiny_processor(), tasks=tasks)


def silent(_line: str) -> None:
    pass


def timeless(found: dict) -> dict:
    return {name: value for name, value in found.items() if name not in ("seconds", "samples_per_second")}


def test_the_file_holds_every_bank_and_group(subject: Subject, tmp_path) -> None:
    lines: list[str] = []
    found = measure(subject, SETTINGS, tmp_path / "out", lines.append)
    assert [task["name"] for task in found["tasks"]] == sorted(TASKS)
    assert all((task["directions"], task["measured"]) == (4, 4) for task in found["tasks"])
    assert len(found["banks"]) == 28
    names = [(group["side"], group["kind"], group["name"]) for group in found["groups"]]
    assert names[:3] == [("A", "all", "all"), ("A", "depth", "shallow"), ("A", "depth", "deep")]
    assert len(names) == len(set(names)) == 2 * (1 + 2 + 7)
    for group in [*found["groups"], *found["banks"]]:
        for number, row in enumerate(group["score"]["value"]):
            assert row[number] == 1.0
    assert {row["name"] for row in found["summary"]} == {"all", "shallow", "deep"}
    assert all(
        row["pairs"] == row["helps"] + row["hurts"] + row["unclear"] + row["undecided"] for row in found["summary"]
    )
    assert any("28" in line or "14 linears" in line for line in lines)
    json.dumps(found, allow_nan=False)


def test_an_interrupted_analysis_goes_on_to_the_same_numbers(subject: Subject, tmp_path, monkeypatch) -> None:
    whole = measure(subject, SETTINGS, tmp_path / "whole", silent)
    measured_part, calls = Measurer.measured_part, []

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Measurer, "measured_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(subject, SETTINGS, tmp_path / "parts", silent)
    monkeypatch.setattr(Measurer, "measured_part", measured_part)
    block = Measurer.direction_block
    monkeypatch.setattr(Measurer, "direction_block", lambda *args: calls.append(1) or block(*args))
    (tmp_path / "parts" / "parts" / "directions-001.safetensors").write_bytes(b"torn")
    resumed = measure(subject, SETTINGS, tmp_path / "parts", silent)
    assert len(calls) == 1, "only the torn block is made again"
    assert timeless(resumed) == timeless(whole)


def test_other_settings_begin_anew_and_other_statistics_do_not(subject: Subject, tmp_path, monkeypatch) -> None:
    measure(subject, SETTINGS, tmp_path, silent)
    block, calls = Measurer.direction_block, []
    monkeypatch.setattr(Measurer, "direction_block", lambda *args: calls.append(1) or block(*args))
    measure(subject, SETTINGS.model_copy(update={"resamples": 200, "confidence": 0.9}), tmp_path, silent)
    assert not calls
    measure(subject, SETTINGS.model_copy(update={"seed": 1}), tmp_path, silent)
    assert len(calls) == 2


def test_pictures_show_what_is_decided(subject: Subject, tmp_path) -> None:
    found = measure(subject, SETTINGS, tmp_path, silent)
    group = found["groups"][0]
    tasks = [task["name"] for task in found["tasks"]]
    group["undecided"] = [tasks[1]]
    values = shown_values(group, tasks)
    assert [bool(value) for value in (values != values)[1]] == [True] * 3
    assert verdict(group, tasks, 1, 0) == "undecided"
    group["score"]["low"][0][1] = 0.1
    assert verdict(group, tasks, 0, 1) == "helps"
    content = {"model": "tiny", "adapter": None, "preset": "mixlora", "cost_ratio": None, **surroundings(), **found}
    assert write_picture(content, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_cost_is_held_against_the_adapters_own_training(tmp_path) -> None:
    assert run.cost_ratio(None, 1.0, 1) is None
    assert run.cost_ratio(tmp_path, 1.0, 1) is None
    card = {"metrics": {"seconds": 100.0, "samples": 50}}
    (tmp_path / "train_result.json").write_text(json.dumps(card))
    assert run.cost_ratio(tmp_path, 30.0, 30) == 0.5
