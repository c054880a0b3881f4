"""The real lmms-eval asking a tiny model about local files (skipped where lmms-eval is not installed)."""

import importlib.metadata
from pathlib import Path

import pytest
import torch

pytest.importorskip("lmms_eval.evaluator")

import lmms_eval.models as registry
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager

import official_files
from mixtune.config import ModelSettings
from mixtune.data.sample import PLACEHOLDER, ImageRef, Message, Sample
from mixtune.evaluate import EvaluateSettings, evaluate
from mixtune.evaluate.harness import MixtuneModel, _limit, manifest
from mixtune.training.loading import load_model
from mixtune.training.parts import load_adapter
from routed import adapted
from tiny import COLOURS, tiny_llava
from tolerances import TOL

TASK = """
task: tiny_{kind}
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: {kind}
doc_to_visual: !function utils.visual
doc_to_text: "what colour is this?"
doc_to_target: {target}
{more}
metadata: [{{version: 0.0}}]
"""
GENERATE = """generation_kwargs: {max_new_tokens: 4, temperature: 0, do_sample: false, until: ["zz"]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]"""
CHOOSE = """doc_to_choice: [red, green, blue, yellow]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]"""


@pytest.fixture
def tasks(tmp_path):
    """A folder of two tasks about eight one-colour pictures, as `--include_path` takes it."""
    rows = [
        {"image": official_files.encoded(COLOURS[name]), "answer": name, "number": n % 4, "more": "x" * n}
        for n, name in enumerate([*COLOURS] * 2)
    ]
    file = official_files.write_parquet(tmp_path / "data" / "test.parquet", rows)
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "utils.py").write_text("def visual(doc):\n    return [doc['image'].convert('RGB')]\n")
    for kind, target, more in (("generate_until", "answer", GENERATE), ("multiple_choice", "number", CHOOSE)):
        (folder / f"{kind}.yaml").write_text(TASK.format(kind=kind, file=file, target=target, more=more))
    return folder


@pytest.fixture
def run(tmp_path):
    """A saved tiny base and the folder of a mixture trained on it."""
    model, processor = tiny_llava()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "base")
    adapted("mixlora").save_pretrained(tmp_path / "adapter")
    return tmp_path / "base", tmp_path / "adapter"


def ask(run, tasks, batch_size, adapter=True):
    """The answers and the losses [8, 4] of a run of both tasks, and the accuracy lmms-eval makes of the losses."""
    registry.MODEL_REGISTRY_V2.register_manifest(manifest(), overwrite=True)
    names = ["tiny_generate_until", "tiny_multiple_choice"]
    found = simple_evaluate(
        model="mixtune",
        model_args=f"pretrained={run[0]},dtype=float32" + (f",adapter={run[1]}" if adapter else ""),
        tasks=names,
        batch_size=batch_size,
        task_manager=TaskManager("ERROR", include_path=str(tasks), include_defaults=False),
        log_samples=True,
    )
    texts, choices = (
        [each["filtered_resps"] for each in sorted(found["samples"][name], key=lambda each: each["doc_id"])]
        for name in names
    )
    losses = torch.tensor([[loss for loss, _ in row] for row in choices])
    return texts, losses, found["results"][names[1]]["acc,none"]


def test_the_entry_point_is_declared() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '[project.entry-points."lmms_eval.models"]\nmixtune = "mixtune.evaluate.harness:manifest"' in text
    point = importlib.metadata.EntryPoint("mixtune", "mixtune.evaluate.harness:manifest", "lmms_eval.models")
    assert point.load()().simple_class_path == "mixtune.evaluate.harness.MixtuneModel"


def test_tasks_from_local_files_are_answered_alike_in_every_batch(run, tasks) -> None:
    texts, losses, accuracy = ask(run, tasks, 1)
    again, same, _ = ask(run, tasks, 5)
    assert texts == again
    torch.testing.assert_close(same, losses, **TOL[torch.float32])
    assert accuracy == pytest.approx((losses.argmin(1) == torch.arange(8) % 4).float().mean().item())
    _, bare, _ = ask(run, tasks, 5, adapter=False)
    assert (bare - losses).abs().max() > 1e-3


def test_losses_and_answers_are_those_of_the_evaluation(run, tasks, tmp_path) -> None:
    texts, losses, _ = ask(run, tasks, 3)
    message = Message("user", f"{PLACEHOLDER}\nwhat colour is this?"), Message("assistant", "red")
    samples = []
    for n, colour in enumerate([*COLOURS] * 2):
        image = ImageRef(str(official_files.picture(tmp_path / f"{n}.png", COLOURS[colour], (24, 24))))
        samples.append(Sample(id=str(n), messages=message, images=(image,), task="t", options=tuple(COLOURS)))
    model, processor = load_model(ModelSettings(name_or_path=str(run[0]), dtype="float32"))
    found = evaluate(
        load_adapter(model, run[1]), processor, samples, EvaluateSettings(max_new_tokens=4), tmp_path / "o"
    )
    torch.testing.assert_close(-torch.tensor([row["scores"] for row in found.rows]), losses, **TOL[torch.float32])
    assert [row["answer"] for row in found.rows] == [text for (text,) in texts]


def test_wrong_arguments_are_named(run, tmp_path) -> None:
    with pytest.raises(ValueError, match="adaptr: unknown argument; did you mean 'adapter'"):
        MixtuneModel(pretrained=str(run[0]), adaptr="x")
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        MixtuneModel(pretrained=str(run[0]), adapter=str(tmp_path / "none"))


@pytest.mark.parametrize("wanted", [{"do_sample": True}, {"num_beams": 3}, {"temperature": 0.2}])
def test_what_is_not_greedy_is_refused(wanted) -> None:
    with pytest.raises(ValueError, match="decodes greedily"):
        _limit(wanted)
    assert _limit({"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1}) == 16
