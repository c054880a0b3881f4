"""The pocket suite's rows of the table of benchmarks: their samples and places, mixes, splits and blind controls."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from mixtune.evaluate import EvaluateSettings, asking, evaluate
from mixtune.evaluate.against import compare_evaluations
from mixtune.evaluate.asking import EvaluationRequest
from mixtune.evaluate.benchmarks.registry import BENCHMARKS, wanted
from mixtune.pocket import benchmark as module
from mixtune.pocket.benchmark import POCKET, TABLE, groups
from mixtune.pocket.prepare import PocketPaths
from tiny import tiny_llava, tiny_processor


def ask(name: str, **options):
    return asking.ask(name, TABLE, **options)


def questions(*benchmarks: str, **changes):
    return asking.questions(EvaluationRequest(model="m", benchmarks=benchmarks, **changes), TABLE).samples


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
    assert all(sample.benchmark == name and sample.group.domain == "document" for sample in found.samples)
    swapped = ask(f"{name}:blind")
    assert [sample.images for sample in swapped.samples[:2]] == [sample.images for sample in found.samples[1::-1]]


def test_a_wrong_mix_or_split_is_named(home) -> None:
    with pytest.raises(
        ValueError, match="benchmark 'pocket/conflit': is no pocket split or mix; did you mean 'conflict'"
    ):
        ask("pocket/conflit")
    with pytest.raises(ValueError, match="'valid' is no split of natural; did you mean 'validation'"):
        ask("pocket/natural/valid:blind")


def test_the_first_of_each_task_are_kept_and_files_stand_beside(home) -> None:
    samples = questions("pocket", "data/train.jsonl", per_task=1)
    assert [sample.task for sample in samples] == ["test_seen", "test_unseen", "train"]
    assert [sample.id for sample in samples[:2]] == ["test_seen-0", "test_unseen-0"]


def test_a_blind_control_is_asked_alone(home) -> None:
    with pytest.raises(ValueError, match="'pocket:blind' is a blind control; evaluate it apart"):
        questions("pocket/natural", "pocket:blind")
    assert {sample.task for sample in questions("pocket:blind")} == {"test_seen", "test_unseen"}


def test_pocket_rows_are_rows_like_any_other(home) -> None:
    with pytest.raises(ValueError, match="--protocol lmms-eval: pocket has only official"):
        ask("pocket", protocol="lmms-eval")
    with pytest.raises(ValueError, match=r"--benchmark pocket=/data: .* is drawn by mixtune and has no other place"):
        ask("pocket=/data")
    with pytest.raises(ValueError, match="neither a benchmark nor a file; did you mean 'pocket'"):
        ask("pockt")


def test_a_file_that_lies_there_is_no_mix(home) -> None:
    (home / "pocket").mkdir()
    for place in ("pocket-mine.jsonl", "pocket/mine.jsonl"):
        rows = (home / "data" / "train.jsonl").read_text().replace("train-0.png", str(home / "data" / "train-0.png"))
        (home / place).write_text(rows.splitlines()[0])
        assert wanted(place, TABLE) is None and len(ask(place).samples) == 1


def test_the_table_has_the_public_rows_too() -> None:
    names = {row.name for row in POCKET}
    assert names == {"pocket", "pocket/natural", "pocket/conflict", "pocket/conflict-many"}
    assert set(TABLE) == names | set(BENCHMARKS)


def test_the_docs_have_a_line_for_every_pocket_row() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for row in POCKET:
        assert sum(line.startswith(f"| `{row.name}` |") for line in text.splitlines()) == 1, row.name


def test_pocket_rows_are_scored_summed_up_and_compared_by_the_table(home) -> None:
    samples = [dataclasses.replace(sample, options=("a", "b")) for sample in questions("pocket")]
    found = evaluate(tiny_llava()[0], tiny_processor(), samples, EvaluateSettings(max_length=512), home / "one")
    table = found.results["benchmarks"]["pocket"]
    assert (table["protocol"], table["n"], table["headlines"]) == ("official", 4, ["accuracy", "ranked_accuracy"])
    for way, number in (("greedy", "accuracy"), ("rank", "ranked_accuracy")):
        for split in ("seen", "unseen"):
            cell, summary = table["numbers"][f"{number}/{split}"], found.results["summary"][split][way]
            assert (cell["value"], cell["low"], cell["high"]) == tuple(summary[k] for k in ("accuracy", "low", "high"))
    compared = compare_evaluations(found.rows, home / "one", TABLE)["benchmarks"]["pocket"]
    cell = compared["numbers"]["ranked_accuracy"]
    assert cell["first"] == cell["second"] == table["numbers"]["ranked_accuracy"]["value"] and cell["p_value"] == 1.0


def test_the_model_is_placed_before_it_is_asked(home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_model", lambda settings: ("model", "processor"))
    monkeypatch.setattr(module, "placed", lambda model: f"{model} on the GPU")
    monkeypatch.setattr(module, "evaluate", lambda model, *rest, **more: model)
    request = EvaluationRequest(model="some/folder", benchmarks=("pocket/natural",))
    assert module.evaluate_request(request, home / "out", batch_size=1) == "model on the GPU"
