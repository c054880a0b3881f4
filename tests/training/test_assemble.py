import json

import pytest

from mixtune.data import DataError, Encoder, read_samples
from mixtune.training.assemble import fit_tasks, group_tasks
from runs import tiny_recipe


def fitted(tiny_llava, recipe, lines):
    samples, left_out = read_samples(recipe.data)
    encoder = Encoder(tiny_llava()[1], recipe.data.max_length)
    return fit_tasks(samples, left_out, encoder, recipe, lambda *new: lines.extend(new))


def with_data(recipe, **given):
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=given)})


def lengthen(path, line):
    """Make the answer of one sample far too long."""
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    rows[line]["messages"][1]["content"] = "red " * 90
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_tasks_are_numbered_by_name_and_fingerprinted_by_content(tiny_samples, tmp_path):
    recipe = tiny_recipe(tiny_samples(9), tmp_path / "run")
    samples = read_samples(recipe.data)[0]
    tasks = group_tasks(samples, recipe)
    assert tasks.names == ("colour", "count", "yesno")
    assert tasks.labels[:4] == ["colour", "yesno", "count", "colour"]
    other = group_tasks(samples[:-1], recipe)
    assert tasks.sampler.state_dict()["fingerprint"] != other.sampler.state_dict()["fingerprint"]


def test_a_sample_that_is_too_long_is_an_error_before_training_or_left_out_on_request(
    tiny_samples, tiny_llava, tmp_path
):
    path = tiny_samples(6)
    lengthen(path, 3)
    recipe = with_data(tiny_recipe(path, tmp_path / "run"), max_length=64)
    with pytest.raises(DataError, match=r"samples\.jsonl:4.*64"):
        fitted(tiny_llava, recipe, [])
    lines = []
    tasks = fitted(tiny_llava, with_data(recipe, max_bad=1), lines)
    assert len(tasks.samples) == 5
    assert len(lines) == 1 and "samples.jsonl:4" in lines[0] and lines[0].startswith("left out")


def test_nothing_left_to_train_on_is_an_error(tiny_samples, tiny_llava, tmp_path):
    recipe = with_data(tiny_recipe(tiny_samples(3), tmp_path / "run"), max_length=2, max_bad=3)
    with pytest.raises(DataError, match=r"data\.sources"):
        fitted(tiny_llava, recipe, [])
