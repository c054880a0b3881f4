"""The pieces of the pocket model's conversion that need no weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from mixtune.pocket.model import IMAGE_TOKEN, RESERVED_TOKEN, WEIGHTS, rename_token, save_projector, shipped
from mixtune.pocket.vision import PocketVisionConfig


def test_a_token_is_renamed_and_keeps_its_id() -> None:
    document = {
        "model": {"vocab": {"a": 0, RESERVED_TOKEN: 16, "b": 1}},
        "added_tokens": [{"id": 16, "content": RESERVED_TOKEN}, {"id": 0, "content": "a"}],
    }
    renamed = json.loads(rename_token(json.dumps(document), RESERVED_TOKEN, IMAGE_TOKEN))
    assert renamed["model"]["vocab"] == {"a": 0, IMAGE_TOKEN: 16, "b": 1}
    assert renamed["added_tokens"] == [{"id": 16, "content": IMAGE_TOKEN}, {"id": 0, "content": "a"}]


def test_a_token_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="<missing>"):
        rename_token(json.dumps({"model": {"vocab": {}}, "added_tokens": []}), "<missing>", "x")


def test_the_shipped_weights_fit_the_encoder_and_the_language_model() -> None:
    projector, statistics = shipped("projector"), shipped("feature_stats")
    assert projector["linear_1.weight"].shape == (576, PocketVisionConfig().hidden_size)
    assert projector["linear_2.weight"].shape == (576, 576)
    assert statistics["feature_mean"].shape == statistics["feature_std"].shape == (PocketVisionConfig().feature_size,)
    assert all(tensor.isfinite().all() for tensor in (*projector.values(), *statistics.values()))
    assert (statistics["feature_std"] > 0).all()
    assert (WEIGHTS / "projector.safetensors").stat().st_size < 3_000_000


def test_a_projector_is_kept_in_bfloat16(tmp_path) -> None:
    state = {"linear_1.weight": torch.randn(3, 4)}
    save_projector(state, tmp_path / "projector.safetensors")
    torch.testing.assert_close(
        load_file(tmp_path / "projector.safetensors")["linear_1.weight"], state["linear_1.weight"].bfloat16()
    )
