"""Counts of what was chosen, against counting by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mixtune import record_routing
from mixtune.analyse import read_usage
from mixtune.config import DataSettings, SourceSettings
from mixtune.data import Encoder, read_samples
from mixtune.evaluate import EvaluateSettings, evaluate
from mixtune.evaluate.usage import batch_usage, count_choices, pack, unpack
from routed import adapted
from tiny import tiny_processor


def test_instance_choices_count_once_and_tokens_where_attended() -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    instance = count_choices(torch.tensor([[0, 2], [3, 2]]), 4, mask)
    assert instance.tolist() == [[1, 0, 1, 0], [0, 0, 1, 1]]
    token = count_choices(torch.tensor([[[0], [1], [1]], [[2], [2], [0]]]), 4, mask)
    assert token.tolist() == [[0, 2, 0, 0], [1, 0, 2, 0]]


def test_packing_loses_nothing() -> None:
    counts = np.random.default_rng(0).integers(0, 60_000, (2, 5, 16)).astype(np.uint16)
    assert (unpack(pack(counts), 5) == counts).all()
    with pytest.raises(ValueError, match="3 layers"):
        unpack(pack(counts[:, :, :1]), 3)


def test_sides_and_layers_keep_their_places() -> None:
    routed = SimpleNamespace(indices_a=torch.tensor([[1]]), indices_b=torch.tensor([[2]]), probs=torch.zeros(1, 3))
    other = SimpleNamespace(indices_a=torch.tensor([[0]]), indices_b=torch.tensor([[0]]), probs=torch.zeros(1, 3))
    counts = batch_usage({"x": routed, "y": other}, torch.ones(1, 4))
    assert counts.tolist() == [[[[0, 1, 0], [1, 0, 0]], [[0, 0, 1], [1, 0, 0]]]]


@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_evaluation_counts_what_each_prompt_chose(preset, tiny_samples, tmp_path) -> None:
    samples, _ = read_samples(DataSettings(sources=(SourceSettings(path=str(tiny_samples(6))),)))
    model, encoder = adapted(preset), Encoder(tiny_processor())
    found = evaluate(model, tiny_processor(), samples, EvaluateSettings(batch_size=4), tmp_path)
    usage = read_usage(tmp_path / "usage.safetensors")
    wanted = np.zeros_like(usage.counts_SNLE)
    for sample in samples:
        prompt = encoder.encode_prompt(sample)
        with torch.inference_mode(), record_routing(model) as seen:
            model(input_ids=prompt["input_ids"][None], pixel_values=prompt["pixel_values"])
        task = usage.tasks.index(sample.task)
        for number, name in enumerate(usage.layers):
            for side, indices in enumerate((seen.selections[name].indices_a, seen.selections[name].indices_b)):
                np.add.at(wanted[side, task, number], indices.flatten().numpy(), 1)
    assert (usage.counts_SNLE == wanted).all()
    assert all(row["selection"] for row in found.rows)


def test_models_without_a_router_leave_no_usage(tiny_samples, tmp_path) -> None:
    samples, _ = read_samples(DataSettings(sources=(SourceSettings(path=str(tiny_samples(3))),)))
    found = evaluate(adapted("lora"), tiny_processor(), samples, EvaluateSettings(), tmp_path)
    assert "selection" not in found.rows[0]
    assert not (tmp_path / "usage.safetensors").exists()
