"""Which linears are found and chosen."""

import pytest
from peft import LoraConfig, get_peft_model

from mixtune.analyse.interference.banks import adapted_linears, choose, chosen_depths
from routed import adapted
from tiny import tiny_llava


class Layer:
    """What choosing asks of a linear."""

    def __init__(self, depth: int, linear: str) -> None:
        self.depth, self.linear = depth, linear


THIRTY = [Layer(depth, linear) for depth in range(30) for linear in ("q_proj", "up_proj")]


def test_default_layers_are_in_the_middle_of_each_third() -> None:
    assert chosen_depths(THIRTY, "shallow,middle,deep") == [(5, "shallow"), (15, "middle"), (25, "deep")]
    assert chosen_depths(THIRTY, "3, deep") == [(3, "layer 3"), (25, "deep")]
    assert len(chosen_depths(THIRTY, "all")) == 30


def test_linears_of_a_kind() -> None:
    found = choose(THIRTY, "deep", ["up_proj"])
    assert [(each.depth, each.linear) for each in found] == [(25, "up_proj")]


@pytest.mark.parametrize(
    ("layers", "kinds", "message"),
    [
        ("30", (), "layers: '30' is none of shallow, middle, deep, all, or a number among 0 to 29"),
        ("deeep", (), "layers: 'deeep' is none of"),
        ("deep", ("q_prj",), "linears: no adapted linear is called 'q_prj'; did you mean 'q_proj'"),
    ],
)
def test_what_is_not_there_is_named(layers: str, kinds: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(THIRTY, layers, kinds)


def test_a_mixtures_banks_and_scale() -> None:
    model = adapted("mixlora")
    linears = adapted_linears(model)
    assert len(linears) == 14
    first = linears[0]
    assert (first.name, first.scale, first.block) == ("model.language_model.layers.0.self_attn.q_proj", 2.0, 1)
    assert (first.bank_a.shape, first.bank_b.shape) == ((6, 32), (32, 6))


def test_plain_lora_outside_the_language_model_is_left_out() -> None:
    model = get_peft_model(tiny_llava()[0], LoraConfig(r=2, target_modules=["q_proj"]))
    assert [each.name for each in adapted_linears(model)] == [
        f"model.language_model.layers.{depth}.self_attn.q_proj" for depth in range(2)
    ]


def test_variants_and_bare_models_are_refused() -> None:
    with pytest.raises(ValueError, match="carries neither a mixture nor a plain LoRA"):
        adapted_linears(tiny_llava()[0])
    dora = get_peft_model(tiny_llava()[0], LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(ValueError, match="only plain LoRA can be analysed"):
        adapted_linears(dora)
