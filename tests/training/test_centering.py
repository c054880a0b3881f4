"""Centers in a run: found before the first step on samples of every task, the same after an interruption."""

import pytest
import torch
from safetensors.torch import load_file

from mixtune.train import train
from mixtune.training.centering import evenly
from runs import tiny_recipe


def run(data, out, preset="mixlora-centered", **settings):
    train(tiny_recipe(data, out, adapter=preset, max_steps=2, save_steps=1, **settings))
    return {name: value for name, value in load_file(out / "adapter_model.safetensors").items() if "center" in name}


def test_a_run_centers_its_routers_once(tiny_samples, tmp_path, capsys):
    data = tiny_samples(8)
    found = run(data, tmp_path / "run")
    assert found and all(bool(value.any()) for value in found.values())
    assert "centered   routers, on the prompts of 8 samples of" in capsys.readouterr().out
    again = run(data, tmp_path / "again", learning_rate=3e-3)
    assert all(torch.equal(again[name], value) for name, value in found.items())  # found before anything has learnt
    (tmp_path / "run" / "train_result.json").unlink()
    capsys.readouterr()
    resumed = run(data, tmp_path / "run")
    assert "centered   routers" not in capsys.readouterr().out
    assert all(torch.equal(resumed[name], value) for name, value in found.items())


def test_other_presets_have_none(tiny_samples, tmp_path):
    assert run(tiny_samples(8), tmp_path / "run", preset="mixlora") == {}


@pytest.mark.parametrize("count, expected", [(2, [0, 5]), (3, [0, 3, 6]), (20, list(range(10)))])
def test_samples_are_taken_from_all_over_a_task(count, expected):
    assert evenly(range(10), count) == expected
