"""Trained and active numbers against a count by hand, and sizes that meet a budget."""

import pytest
import torch

from mixtune.compare.budget import Parameters, count, solve, with_size
from mixtune.config import Recipe
from mixtune.training.loading import ModelError
from tiny import tiny_llava

# Two Llama layers, width 32, MLP 64: q, k, v, o are 32 to 32; gate and up 32 to 64; down 64 to 32.
WIDTHS = 2 * [(32, 32)] * 4 + 2 * [(32, 64)] * 2 + 2 * [(64, 32)]
IN_AND_OUT, IN = sum(a + b for a, b in WIDTHS), sum(a for a, _ in WIDTHS)
MLP_IN_AND_OUT = sum(a + b for a, b in WIDTHS if (a, b) != (32, 32))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_llava()[0].config.save_pretrained(folder)

    def of(**adapter):
        given = {"model": {"name_or_path": str(folder)}, "data": {"sources": [{"path": "x"}]}}
        return Recipe.model_validate({**given, "adapter": adapter, "train": {"output_dir": "o", "learning_rate": 1}})

    return of


def test_a_lora_is_counted_as_by_hand(recipe):
    found = count(recipe(preset="lora", r=3))
    assert found.trained["factors"] == found.active == found.adapter == 3 * IN_AND_OUT
    assert found.trained["routers"] == 0 and found.trained["projector"] > 0 and found.per == "all"


def test_of_a_conditional_mixture_r_of_e_factors_act_and_all_of_its_routers(recipe):
    found = count(recipe(preset="mixlora", r=2, num_factors=6))
    routers = (2 * 6 + 2 * 6) * IN  # two independent routers [E, d] and the conditional one [r, d, E]
    assert found.trained["factors"] == 6 * IN_AND_OUT and found.trained["routers"] == routers
    assert found.active == 2 * IN_AND_OUT + routers and found.per == "instance"
    assert found.as_dict()["total"] == found.adapter + found.trained["projector"]


def test_of_experts_top_k_act_and_all_of_a_plain_lora_beside_them(recipe):
    found = count(recipe(preset="llava-mole", r=4, num_experts=3))
    plain = 4 * (IN_AND_OUT - MLP_IN_AND_OUT)
    assert found.trained["factors"] == plain + 3 * 4 * MLP_IN_AND_OUT
    assert found.active == plain + 4 * MLP_IN_AND_OUT + found.trained["routers"] and found.per == "token"
    dense = count(recipe(preset="llava-mole", r=4, num_experts=3, dense="always"))
    assert dense.active == found.adapter


def test_untrained_routers_act_but_are_not_in_the_budget(recipe):
    found = count(recipe(preset="mixlora-released", r=2, num_factors=6))
    assert found.trained["routers"] == 0 and found.adapter == 6 * IN_AND_OUT
    assert found.active > 2 * IN_AND_OUT


def test_routers_that_nobody_asks_do_not_act(recipe):
    found = count(recipe(preset="mixlora", r=2, num_factors=6, random_routing=True))
    assert found.active == 2 * IN_AND_OUT and found.trained["factors"] == 6 * IN_AND_OUT


@pytest.mark.parametrize(
    ("adapter", "field", "value"),
    [
        ({"preset": "lora"}, "r", 7),
        ({"preset": "mixlora", "r": 2}, "num_factors", 9),
        ({"preset": "llava-mole"}, "r", 5),
    ],
)
def test_a_budget_finds_the_size_that_trains_so_much(recipe, adapter, field, value):
    wanted = count(with_size(recipe(**adapter, scaling=2.0), field, value)).adapter
    found, solved = solve(recipe(**adapter, scaling=2.0), wanted)
    assert (solved.field, solved.value, solved.reached, solved.gap) == (field, value, wanted, 0.0)
    assert getattr(found.adapter, field) == value and found.adapter.scaling == 2.0


def test_the_scale_does_not_change_with_the_size(recipe):
    found, _ = solve(recipe(preset="mixlora-published", r=2), 10 * IN_AND_OUT)
    assert found.adapter.scaling == 2 * 16 / 2 and found.adapter.num_factors != 16


def test_the_field_may_be_chosen(recipe):
    found, solved = solve(recipe(preset="llava-mole", r=2), 40 * IN_AND_OUT, "num_experts")
    assert solved.field == "num_experts" and found.adapter.r == 2 and found.adapter.num_experts == solved.value


def test_a_budget_that_nothing_meets_is_an_error(recipe):
    with pytest.raises(ValueError, match="too few: the smallest num_factors, 4, trains"):
        solve(recipe(preset="mixlora", r=4), 1000)


def test_a_count_that_grows_unevenly_is_still_met(recipe):
    def measure(each):
        r = each.adapter.r
        return Parameters(
            trained={"factors": r * r * 10, "routers": 0, "projector": 0, "other": 0}, active=0, per="all"
        )

    for wanted in (10, 1_000, 98_765):
        _, solved = solve(recipe(preset="lora"), wanted, measure=measure)
        best = min(range(1, 200), key=lambda r: abs(r * r * 10 - wanted))
        assert solved.value == best


def test_a_full_stage_counts_the_language_model(recipe):
    model = tiny_llava()[0]
    given = recipe(preset="lora").model_dump()
    given |= {
        "adapter": None,
        "model": {**given["model"], "dtype": "float32"},
        "train": {**given["train"], "stage": "full"},
    }
    found = count(Recipe.model_validate(given))
    tower = sum(weight.numel() for name, weight in model.named_parameters() if "vision" in name)
    assert sum(found.trained.values()) == sum(weight.numel() for weight in model.parameters()) - tower
    assert torch.get_default_device().type == "cpu"


def test_a_base_that_is_not_here_is_named(recipe):
    with pytest.raises(ModelError, match="nowhere"):
        count(
            recipe(preset="lora").model_copy(
                update={"model": recipe().model.model_copy(update={"name_or_path": "nowhere"})}
            )
        )
