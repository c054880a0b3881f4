"""Samples by task, and the errors that name what does not fit."""

from pathlib import Path

import pytest

from mixtune.analyse.subject import AnalysisRequest, load_subject, model_inputs, read_tasks
from mixtune.check.inputs import own_samples
from mixtune.config import ConfigError, ModelSettings, Recipe, dump_recipe
from mixtune.data import Collator, Encoder
from mixtune.evaluate.settings import TaskGroup
from mixtune.training.checkpoint import RECIPE_FILE
from mixtune.training.loading import ModelError
from routed import adapted
from tiny import TASKS, tiny_llava, tiny_processor, tiny_samples


def test_tasks_come_seen_first_by_domain_and_name(tmp_path) -> None:
    data, other = tiny_samples(tmp_path / "a", 12), tiny_samples(tmp_path / "b", 4, tasks=("other",))
    places = {"count": TaskGroup(domain="a domain", split="seen")}
    found = read_tasks(AnalysisRequest(model="m", data=(str(data),), unseen=(str(other),), places=places))
    assert [(task.name, task.split, len(task.samples)) for task in found] == [
        ("colour", "seen", 4), ("yesno", "seen", 4), ("count", "seen", 4), ("other", "unseen", 4),
    ]  # fmt: skip
    only = read_tasks(AnalysisRequest(model="m", data=(str(data),), tasks=("yesno", "colour")))
    assert [task.name for task in only] == ["colour", "yesno"]


def test_errors_name_the_task(tmp_path) -> None:
    data = str(tiny_samples(tmp_path, 12))
    with pytest.raises(ValueError, match="tasks: the data hold no task 'colur'; did you mean 'colour'"):
        read_tasks(AnalysisRequest(model="m", data=(data,), tasks=("colur",)))
    with pytest.raises(ValueError, match=r"samples.jsonl:1: task 'colour' is in --data and in --unseen"):
        read_tasks(AnalysisRequest(model="m", data=(data,), unseen=(data,)))
    with pytest.raises(ValueError, match="data: names no file"):
        read_tasks(AnalysisRequest(model="m"))


def test_a_model_without_a_mixture_is_not_given_routing_facts(tmp_path) -> None:
    batch = Collator(Encoder(tiny_processor()), TASKS)(own_samples(str(tiny_samples(tmp_path, 3))))
    assert {"prompt_mask", "task_ids"} <= model_inputs(adapted("mixlora"), batch).keys()
    assert not {"prompt_mask", "task_ids"} & model_inputs(tiny_llava()[0], batch).keys()


def test_results_say_what_was_analysed() -> None:
    fresh = AnalysisRequest(model="folder", name="pocket", data=("a.jsonl",), data_names=("pocket/train",))
    loaded = {"dtype": "bfloat16", "attn_implementation": "sdpa"}
    told = {"model": "pocket", **loaded, "adapter": None, "preset": "mixlora", "data": ["pocket/train"]}
    assert fresh.describe() == told
    tuned = fresh.model_copy(update={"adapter": Path("runs/mine")})
    assert (tuned.describe()["adapter"], tuned.describe()["preset"]) == ("runs/mine", None)


def write_recipe(folder: Path, **model) -> None:
    """The recipe that a training run leaves beside its adapter."""
    settings = {"model": {"name_or_path": "base", **model}, "data": {"sources": [{"path": "a.jsonl"}]}, "adapter": {}}
    whole = Recipe.model_validate({**settings, "train": {"output_dir": "runs/mine", "learning_rate": 1e-3}})
    (folder / RECIPE_FILE).write_text(dump_recipe(whole), encoding="utf-8")


def test_an_adapter_is_looked_at_on_the_base_it_was_trained_on(tmp_path) -> None:
    write_recipe(tmp_path, revision="main", dtype="float32", attn_implementation="eager")
    asked = AnalysisRequest(model="elsewhere", data=("a.jsonl",), adapter=tmp_path)
    assert asked.base == ModelSettings(name_or_path="elsewhere", dtype="float32", attn_implementation="eager")
    own = asked.model_copy(update={"dtype": "bfloat16"})
    assert own.base == ModelSettings(name_or_path="elsewhere", dtype="bfloat16", attn_implementation="eager")
    assert (own.describe()["dtype"], own.describe()["attn_implementation"]) == ("bfloat16", "eager")


def test_attention_code_that_is_not_here_is_said_to_be_that_of_training(tmp_path) -> None:
    model, processor = tiny_llava()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "base")
    write_recipe(tmp_path, attn_implementation="no_such_code")
    data = (str(tiny_samples(tmp_path / "data", 3)),)
    asked = AnalysisRequest(model=str(tmp_path / "base"), data=data, adapter=tmp_path)
    with pytest.raises(ModelError, match=r"'no_such_code' is what .* was trained with; --attn-implementation"):
        load_subject(asked)


def test_a_recipe_that_cannot_be_read_is_named_only_where_it_is_needed(tmp_path) -> None:
    (tmp_path / RECIPE_FILE).write_text("model: {name_or_path: base, dtipe: float32}", encoding="utf-8")
    asked = AnalysisRequest(model="base", data=("a.jsonl",), adapter=tmp_path)
    with pytest.raises(ConfigError, match=r"recipe\.yaml:1: model\.dtipe"):
        _ = asked.base
    told = {"dtype": "float32", "attn_implementation": "sdpa"}
    assert asked.model_copy(update=told).base == ModelSettings(name_or_path="base", **told)
