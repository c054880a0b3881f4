"""What is asked: the pocket suite's samples and places, mixes, files and blind controls by name."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from mixtune.data import Message, Sample
from mixtune.data.sample import DataError
from mixtune.pocket import benchmark as module
from mixtune.pocket.benchmark import EvaluationRequest, ask, first_of_each, groups, questions
from mixtune.pocket.prepare import PocketPaths


def test_the_first_of_each_task_in_order() -> None:
    samples = [Sample(id=str(i), messages=(Message("user", "q"),), images=(), task="ab"[i % 2]) for i in range(6)]
    assert [sample.id for sample in first_of_each(samples, 2)] == ["0", "1", "2", "3"]


def write_folder(folder, *splits: str) -> None:
    """A data folder whose splits hold two samples of one task each."""
    folder.mkdir()
    tasks = {split: {"domain": "document", "split": "unseen" if "unseen" in split else "seen"} for split in splits}
    (folder / "data.json").write_text(json.dumps({"tasks": tasks}))
    for split in splits:
        lines = []
        for number, shade in enumerate((10, 200)):
            Image.new("L", (8, 8), shade).save(folder / f"{split}-{number}.png")
            turns = [{"role": "user", "content": "<image>q"}, {"role": "assistant", "content": "a"}]
            row = {"id": f"{split}-{number}", "task": split, "images": [f"{split}-{number}.png"], "messages": turns}
            lines.append(json.dumps(row) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))


@pytest.fixture
def home(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Stand-ins for the prepared folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / "cache"))
    write_folder(tmp_path / "data", "train", "test_seen", "test_unseen")
    write_folder(tmp_path / "data-natural", "train", "validation", "test_seen", "test_unseen")
    write_folder(tmp_path / "data-conflict-0.5", "train", "validation", "test")
    monkeypatch.setattr(module, "prepare_pocket", lambda **_: PocketPaths(model=tmp_path, data=tmp_path / "data"))
    monkeypatch.setattr(module, "prepare_mix", lambda name: tmp_path / f"data-{name}")
    return tmp_path


def test_groups_come_from_the_manifest(home) -> None:
    found = groups(home / "data")
    assert (found["test_seen"].split, found["test_unseen"].split) == ("seen", "unseen")
    assert found["test_unseen"].domain == "document"


@pytest.mark.parametrize(
    ("name", "folder", "tasks"),
    [
        ("pocket", "data", ["test_seen", "test_unseen"]),
        ("pocket/train", "data", ["train"]),
        ("pocket/natural", "data-natural", ["test_seen", "test_unseen"]),
        ("pocket/natural/validation", "data-natural", ["validation"]),
        ("pocket/conflict-0.5", "data-conflict-0.5", ["test"]),
        ("pocket/conflict-0.5/validation", "data-conflict-0.5", ["validation"]),
    ],
)
def test_a_benchmark_by_name(home, name: str, folder: str, tasks: list[str]) -> None:
    found = ask(name)
    assert list(dict.fromkeys(sample.task for sample in found.samples)) == tasks
    assert all(image.path.startswith(str(home / folder)) for sample in found.samples for image in sample.images)
    assert set(found.groups) >= set(tasks)
    swapped = ask(f"{name}:blind")
    assert swapped.groups == found.groups
    assert [sample.images for sample in swapped.samples[:2]] == [sample.images for sample in found.samples[1::-1]]


def test_a_wrong_mix_or_split_is_named(home) -> None:
    with pytest.raises(
        ValueError, match="benchmark 'pocket/conflit': is no pocket split or mix; did you mean 'conflict'"
    ):
        ask("pocket/conflit")
    with pytest.raises(ValueError, match="'valid' is no split of natural; did you mean 'validation'"):
        ask("pocket/natural/valid:blind")


def test_files_and_limits(home) -> None:
    rows = (home / "data" / "test_seen.jsonl").read_text()
    (home / "data" / "mine.jsonl").write_text(f"{rows}broken\n")
    samples, places = questions(EvaluationRequest(model="m", benchmarks=("pocket", "data/train.jsonl"), per_task=1))
    assert [sample.task for sample in samples] == ["test_seen", "test_unseen", "train"]
    assert "test_seen" in places
    request = EvaluationRequest(model="m", benchmarks=("data/mine.jsonl", "data/mine.jsonl"), max_bad=1)
    with pytest.raises(DataError, match="allows 0"):
        questions(request)
    assert ask("data/mine.jsonl:blind", max_bad=1).left_out == 1


def test_a_blind_control_is_asked_alone(home) -> None:
    with pytest.raises(ValueError, match="'pocket:blind' is a blind control; evaluate it apart"):
        questions(EvaluationRequest(model="m", benchmarks=("pocket/natural", "pocket:blind")))
    samples, _ = questions(EvaluationRequest(model="m", benchmarks=("pocket:blind",)))
    assert {sample.task for sample in samples} == {"test_seen", "test_unseen"}


def test_the_model_is_placed_before_it_is_asked(home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_model", lambda settings: ("model", "processor"))
    monkeypatch.setattr(module, "placed", lambda model: f"{model} on the GPU")
    monkeypatch.setattr(module, "evaluate", lambda model, *rest, **more: model)
    request = EvaluationRequest(model="some/folder", benchmarks=("pocket/natural",))
    assert module.evaluate_request(request, home / "out", batch_size=1) == "model on the GPU"
