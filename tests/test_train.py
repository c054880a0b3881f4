"""A run from recipe to files: what it leaves, that it is not repeated, and that a refused one leaves nothing."""

import json
import shutil
from collections import namedtuple

import pytest
import torch
from safetensors.torch import load_file

from mixtune.config import dump_recipe, load_recipe
from mixtune.data import DataError
from mixtune.train import train
from mixtune.training.callbacks import RouterError
from mixtune.training.checkpoint import CheckpointError
from mixtune.training.loading import load_model
from mixtune.training.logfile import read_log
from mixtune.training.parts import load_adapter, load_projector, projector
from runs import build_tiny, tiny_recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(recipe, result) of one small run that nobody may change."""
    import tiny

    root = tmp_path_factory.mktemp("finished")
    recipe = tiny_recipe(tiny.tiny_samples(root / "data", 12), root / "run", num_train_epochs=2, save_steps=4)
    return recipe, train(recipe)


def other(recipe, **train_settings):
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=train_settings)})


def test_a_run_leaves_adapter_card_recipe_log_and_checkpoints(finished):
    recipe, result = finished
    assert {path.name for path in result.output_dir.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoint-4", "checkpoint-6", "recipe.yaml",
        "routing_log.jsonl", "train_log.jsonl", "train_result.json",
    }  # fmt: skip
    assert load_recipe(result.output_dir / "recipe.yaml") == recipe
    assert {path.name for path in (result.output_dir / "checkpoint-6").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt",
        "rng_state.pth", "recipe.yaml", "sampler_state.json", "trainer_state.json",
    }  # fmt: skip
    last = load_file(result.output_dir / "checkpoint-6" / "adapter_model.safetensors")
    final = load_file(result.output_dir / "adapter_model.safetensors")
    assert last.keys() == final.keys() and all(torch.equal(last[name], final[name]) for name in last)
    assert any("multi_modal_projector" in name for name in final) and any("router" in name for name in final)


def test_the_log_counts_every_sample_once_and_every_task(finished):
    _, result = finished
    log = read_log(result.output_dir / "train_log.jsonl")
    assert [record["step"] for record in log] == [2, 4, 6]
    assert sum(sum(record["task_samples"].values()) for record in log) == 24
    for record in log:
        assert set(record["task_loss"]) == set(record["task_samples"]) <= {"colour", "yesno", "count"}
        assert {"epoch", "loss", "learning_rate", "grad_norm", "tokens", "seconds"} <= set(record)
    assert result.metrics["steps"] == 6 and result.metrics["samples"] == 24
    assert log[-1]["epoch"] == 2.0


def test_checkpoints_say_where_the_sampler_is(finished):
    _, result = finished
    state = json.loads((result.output_dir / "checkpoint-4" / "sampler_state.json").read_text())
    assert state["sampler"]["epoch"] == 1 and state["sampler"]["drawn"] == 16 and state["sampler"]["seed"] == 0


def test_training_learns(tiny_samples, tmp_path):
    recipe = tiny_recipe(tiny_samples(12, ("colour",)), tmp_path / "run", num_train_epochs=10, save_steps=99)
    train(recipe)
    log = read_log(tmp_path / "run" / "train_log.jsonl")
    # Normed hidden states against a frozen head of weights around 0.02 cannot get far below ln(vocabulary) - 0.6.
    assert log[-1]["task_loss"]["colour"] < log[0]["task_loss"]["colour"] - 0.4


def test_the_adapter_loads_onto_its_base(finished):
    recipe, result = finished
    model = load_adapter(load_model(recipe.model)[0], result.output_dir)
    saved = load_file(result.output_dir / "adapter_model.safetensors")
    state = model.state_dict()
    assert all(
        any(torch.equal(value, s) for n, s in state.items() if s.shape == value.shape) for value in saved.values()
    )


def test_a_finished_run_is_reported_not_repeated(finished, capsys):
    recipe, result = finished
    marks = {path: path.stat().st_mtime_ns for path in result.output_dir.rglob("*")}
    assert train(recipe).metrics == result.metrics
    assert marks == {path: path.stat().st_mtime_ns for path in result.output_dir.rglob("*")}
    assert "has been run to its end" in capsys.readouterr().out


def test_another_recipe_in_the_same_folder_is_refused_by_the_field(finished):
    recipe, _ = finished
    with pytest.raises(CheckpointError, match=r"train\.learning_rate: was 0\.01, now 0\.02"):
        train(other(recipe, learning_rate=0.02))


def test_other_data_under_the_same_name_is_refused(tiny_samples, tmp_path):
    path = tiny_samples(12)
    recipe = tiny_recipe(path, tmp_path / "run", save_steps=2)
    train(recipe)
    (tmp_path / "run" / "train_result.json").unlink()
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(CheckpointError, match=r"trained on other data"):
        train(recipe)


def test_no_resume_discards_the_old_run(finished, tmp_path):
    recipe, result = finished
    copy = other(recipe, output_dir=str(tmp_path / "copy"))
    shutil.copytree(result.output_dir, tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    changed = train(other(copy, max_steps=2), resume=False)
    assert changed.metrics["steps"] == 2
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {path for path in names if path.startswith("checkpoint")} == {"checkpoint-2"} and "notes.txt" in names


def test_the_same_recipe_gives_the_same_bits_and_another_seed_does_not(finished, tmp_path):
    recipe, result = finished
    first = load_file(result.output_dir / "adapter_model.safetensors")
    for seed, same in ((0, True), (1, False)):
        train(other(recipe, output_dir=str(tmp_path / str(seed)), seed=seed))
        again = load_file(tmp_path / str(seed) / "adapter_model.safetensors")
        assert all(torch.equal(first[name], again[name]) for name in first) == same


def test_the_run_is_told_as_it_happens(tiny_samples, tmp_path, capsys):
    train(tiny_recipe(tiny_samples(12), tmp_path / "run", max_steps=1))
    told = capsys.readouterr().out
    for words in ("12 samples of 3 task(s)", "colour: 4", "frozen     tiny: ", "factors: ", "routers: ", "projector: ",
                  "1 steps of 4 samples", "every 3 steps", "finished   loss"):  # fmt: skip
        assert words in told, words


def test_stage_align_writes_a_projector_that_fits_its_base_alone(tiny_samples, tiny_llava, tmp_path):
    recipe = tiny_recipe(tiny_samples(8), tmp_path / "run", adapter=None, warm_start_steps=3, max_steps=2)
    train(recipe)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"projector.safetensors", "projector.json", "README.md", "train_result.json"} <= names
    assert not any("adapter" in name for name in names)
    base, _ = build_tiny(recipe.model)
    fresh = {name: value.clone() for name, value in projector(base)[1].state_dict().items()}
    load_projector(base, tmp_path / "run")
    assert all(not torch.equal(value, fresh[name]) for name, value in projector(base)[1].state_dict().items())
    with pytest.raises(CheckpointError, match="was trained on base 'tiny'"):
        load_projector(tiny_llava(seed=5)[0], tmp_path / "run")


def test_a_dead_router_stops_the_run_by_name(tiny_samples, tmp_path):
    only_one = {"preset": "llava-mole", "r": 2, "num_experts": 1}  # its probability is 1 whatever the router says
    with pytest.raises(RouterError, match=r"2 trained router|4 trained router.*mixture_router"):
        train(tiny_recipe(tiny_samples(24), tmp_path / "run", adapter=only_one))


REFUSED = {
    "data": ({"data": {"sources": [{"path": "missing.jsonl"}]}}, DataError, "missing.jsonl"),
    "task weights": ({"data": {"sampling": "weights", "weights": {"colur": 1.0}}}, DataError, "colur"),
    "targets": ({"adapter": {"preset": "lora", "target_modules": ("q_prj",)}}, ValueError, "q_prj"),
    "model": ({"model": {"name_or_path": "nowhere/at-all"}}, ValueError, "nowhere/at-all"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_refused_run_leaves_nothing(tiny_samples, tmp_path, mistake):
    change, error, words = REFUSED[mistake]
    recipe = tiny_recipe(tiny_samples(6), tmp_path / "run").model_dump()
    for section, values in change.items():
        recipe[section] = {**recipe[section], **values}
    with pytest.raises(error, match=words):
        train(type(tiny_recipe("x", "y")).model_validate(recipe))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_refused_before_anything_is_loaded(tiny_samples, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1000))
    monkeypatch.setattr("mixtune.train.load_model", lambda settings: pytest.fail("the model was loaded"))
    with pytest.raises(CheckpointError, match=r"GiB free but the run needs"):
        train(tiny_recipe(tiny_samples(6), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(tiny_samples, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("mixtune.train.load_model", lambda settings: pytest.fail("the model was loaded"))
    with pytest.raises(CheckpointError, match=r"train\.output_dir: .* cannot be written to"):
        train(tiny_recipe(tiny_samples(6), tmp_path / "file" / "run"))


def test_unreadable_samples_are_left_out_up_to_the_limit_and_listed(tiny_samples, tmp_path, capsys):
    path = tiny_samples(12)
    (path.parent / "images" / "3.png").write_bytes((path.parent / "images" / "3.png").read_bytes()[:40])
    (path.parent / "images" / "5.png").unlink()
    recipe = tiny_recipe(path, tmp_path / "run", max_steps=1)
    with pytest.raises(DataError, match=r"2 unreadable"):
        train(recipe)
    assert not (tmp_path / "run").exists()
    allowed = recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_bad": 2})})
    train(allowed)
    told = capsys.readouterr().out
    assert "10 samples of 3 task(s)" in told and told.count("left out") == 2 and "3.png" in told and "5.png" in told


def test_a_dry_run_keeps_nothing(tiny_samples, tmp_path):
    result = train(tiny_recipe(tiny_samples(8), tmp_path / "run"), dry_run=True)
    assert result.metrics["steps"] == 2
    assert not (tmp_path / "run").exists()


def test_a_recipe_survives_its_file(finished, tmp_path):
    recipe, _ = finished
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("field", "value", "near"), [("lr_scheduler_type", "cosin", "cosine"), ("report_to", "wandbb", "wandb")]
)
def test_unknown_names_are_refused_before_anything_is_written(tiny_samples, tmp_path, field, value, near):
    recipe = tiny_recipe(tiny_samples(8), tmp_path / "run", **{field: value})
    with pytest.raises(ValueError, match=f"train.{field}: '{value}' is unknown; did you mean '{near}'"):
        train(recipe)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run(tiny_samples, tmp_path):
    recipe = tiny_recipe(tiny_samples(8), tmp_path / "run", learning_rate=1e30, max_steps=6, max_grad_norm=0)
    with pytest.raises(ValueError, match="the loss is nan"):
        train(recipe)
    assert not (tmp_path / "run" / "train_result.json").exists()
