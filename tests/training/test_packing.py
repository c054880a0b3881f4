import pytest
import torch

from mixtune.data import DataError, Encoder, read_samples
from mixtune.training import packing
from mixtune.training.packing import attention_width, check_packing
from runs import build_tiny, tiny_recipe


@pytest.fixture
def asked(tiny_samples, tmp_path):
    recipe = tiny_recipe(tiny_samples(6), tmp_path / "run")
    model, processor = build_tiny(recipe.model)
    return model, Encoder(processor, 64), read_samples(recipe.data)[0]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_that_keeps_samples_apart_is_accepted(asked, attention):
    model, encoder, samples = asked
    model.set_attn_implementation(attention)
    check_packing(model.train(), encoder, samples)
    assert model.training


@pytest.mark.parametrize("rows", [1, 2])
def test_attention_that_mixes_samples_is_named(asked, rows):
    """Also one that keeps samples apart in a single row only."""
    model, encoder, samples = asked
    forward = model.forward

    def mixing(**inputs):
        if len(inputs["position_ids"]) >= rows:
            inputs["position_ids"] = torch.arange(inputs["position_ids"].shape[1])[None]
        return forward(**inputs)

    model.forward = mixing
    with pytest.raises(DataError, match="attn_implementation 'sdpa' packed samples see each other"):
        check_packing(model, encoder, samples)


@pytest.mark.parametrize(("size", "refused"), [(0.03, False), (0.4, True)])
def test_rounding_is_told_from_a_stranger(asked, monkeypatch, size, refused):
    """Of many logits a few are rounded by more than a tenth of their spread (bfloat16); a stranger moves them all."""
    model, encoder, samples = asked
    exact, random = packing._logits, torch.Generator().manual_seed(0)

    def rounded(model, batch):
        logits = exact(model, batch)
        return logits + torch.randn(logits.shape, generator=random) * logits.std() * size / 2**0.5

    monkeypatch.setattr(packing, "_logits", rounded)
    if refused:
        with pytest.raises(DataError, match="packed samples see each other"):
            check_packing(model, encoder, samples)
    else:
        check_packing(model, encoder, samples)


def test_attention_by_samples_gets_one_row(asked):
    model, _, _ = asked
    assert attention_width(model) == model.config.text_config.hidden_size == 32
    model.config.text_config._attn_implementation = "flash_attention_2"
    assert attention_width(model) is None
