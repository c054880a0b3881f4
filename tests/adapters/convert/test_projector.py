import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import released_files as made
from mixtune.adapters.convert import ReleasedSettings, convert_released
from mixtune.adapters.convert.projector import projector_parts


def test_a_single_map_becomes_the_first_layer_before_an_identity():
    found = projector_parts(["mm_projector.weight", "mm_projector.bias"], made.base("linear"))
    parts = {part.ours: part for part in found}
    assert parts["linear_1.weight"].released == ("mm_projector.weight",)
    assert torch.equal(parts["linear_2.weight"].join([]), torch.eye(32))
    assert torch.equal(parts["linear_2.bias"].join([]), torch.zeros(32))


@pytest.mark.parametrize(
    ("names", "activation", "message"),
    [
        ([], "gelu", "missing: the projector .*projector=False leaves the base its own"),
        (["mm_projector.weight"], "gelu", "projector_hidden_act: the base has 'gelu'.*needs 'linear'"),
        (["mm_projector.0.weight"], "linear", "projector_hidden_act: the base has 'linear'.*needs 'gelu'"),
        (["mm_projector.0.weight", "mm_projector.4.weight"], "gelu", r"mm_projector\.4\.weight: has no place"),
    ],
)
def test_another_projector_is_refused(names, activation, message):
    with pytest.raises(ValueError, match=message):
        projector_parts(names, made.base(activation))


def test_a_base_without_a_projector_is_refused():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes))
    with pytest.raises(ValueError, match="LlamaForCausalLM: has no multi_modal_projector"):
        projector_parts(["mm_projector.weight"], base)


def test_the_base_keeps_its_own_if_asked(tmp_path):
    base = made.base()  # its GELU would not let the released map through
    source = made.write_mixlora(tmp_path / "released", made.mixlora(base))
    result = convert_released(source, base, tmp_path / "out", ReleasedSettings(projector=False))
    assert not [ours for ours in result.used if "projector" in ours]
    assert "projector=False" in result.left_over[f"{made.MIXLORA}mm_projector.weight"]
