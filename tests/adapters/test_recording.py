import pytest
import torch

from mixtune import record_routing
from routed import adapted, batch, config, sample

NAME = "model.language_model.layers.1.mlp.up_proj"


def run(model, *seeds, prompt=9):
    with torch.no_grad():
        model(**batch([sample(seed, prompt) for seed in seeds]))


def test_forwards_are_joined():
    model = adapted("mixlora")
    with record_routing(model) as seen:
        run(model, 0, 1)
        run(model, 2, prompt=11)
    run(model, 3)
    routed = seen.selections[NAME]
    assert len(seen.selections) == 14
    assert routed.indices_a.shape == routed.indices_b.shape == routed.gates.shape == (3, 2)
    assert routed.probs.shape == routed.probs_b.shape == (3, 6)
    assert not routed.probs.requires_grad and torch.equal(routed.gates, torch.ones(3, 2))
    assert seen.prompt_lengths.tolist() == [9, 9, 11]


def test_tokens_are_recorded_by_block():
    model = adapted("llava-mole")
    with record_routing(model) as seen:
        run(model, 0, 1)
    assert list(seen.selections) == [f"model.language_model.layers.{i}.mlp" for i in range(2)]
    routed = seen.selections["model.language_model.layers.0.mlp"]
    assert routed.indices_a.shape == (2, 13, 1) and routed.probs.shape == (2, 13, 3)
    with record_routing(model) as seen:
        run(model, 0)
        run(model, 0, prompt=11)
    with pytest.raises(ValueError, match="different lengths"):
        _ = seen.selections


def test_blocks_can_be_nested_and_nothing_is_recorded_outside():
    model = adapted("mixlora")
    with record_routing(model) as outer:
        with record_routing(model) as inner:
            run(model, 0)
        run(model, 1)
    assert (len(inner.forwards), len(outer.forwards)) == (1, 2)


def test_two_active_adapters_are_both_recorded():
    model = adapted("mixlora")
    model.add_adapter("second", config("mixlora"))
    model.base_model.set_adapter(["default", "second"])
    with record_routing(model) as seen, torch.no_grad():
        model(**batch([sample(0, 9), sample(1, 12)]))
    names = set(seen.selections)
    assert len(names) == 2 * 14 and {name.rpartition(" ")[2] for name in names} == {"(default)", "(second)"}
