import warnings

import pytest
import torch

from mixtune import auxiliary_loss, get_peft_model, record_routing
from mixtune.adapters import dead_routers, factor_parameters, router_parameters, trainable_breakdown
from mixtune.routing.losses import balance_loss
from routed import adapted, batch, config, sample
from tiny import tiny_llava
from tolerances import TOL


def test_counts_are_those_of_the_paper():
    model = get_peft_model(tiny_llava()[0], config("mixlora", modules_to_save=["multi_modal_projector"]))
    counts = trainable_breakdown(model)
    # seven linears a layer: six read 32 and write 32 or 64, by E factors each; two routers E x D and one E x rD
    widths = {
        "q": (32, 32),
        "k": (32, 32),
        "v": (32, 32),
        "o": (32, 32),
        "gate": (32, 64),
        "up": (32, 64),
        "down": (64, 32),
    }
    assert counts["factors"] == 2 * sum(6 * (d_in + d_out) for d_in, d_out in widths.values())
    assert counts["routers"] == 2 * sum(6 * d_in * (2 + 2) for d_in, _ in widths.values())
    projector = tiny_llava()[0].model.multi_modal_projector
    assert counts["projector"] == sum(parameter.numel() for parameter in projector.parameters())
    assert counts["other"] == 0
    assert len(router_parameters(model)) == 14 * 3 and len(factor_parameters(model)) == 14 * 2


def test_an_auxiliary_loss_that_nobody_takes_is_said_once():
    found = batch([sample(0, 9)])
    model, taking = (adapted("llava-mole", router_aux_loss_coef=0.5).train() for _ in range(2))
    model(**found)
    with pytest.warns(UserWarning, match="not part of the loss.*RoutedTrainer"):
        model(**found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**found)
        for _ in range(3):
            taking(**found)
            auxiliary_loss(taking)
        taking(**found)
        taking(**found)


def test_frozen_routers_do_not_train():
    model = adapted("mixlora", router_trainable=False)
    assert trainable_breakdown(model)["routers"] == 0 and len(router_parameters(model)) == 14 * 3
    model.train()
    model(**batch([sample(0, 9)])).loss.backward()
    assert dead_routers(model) == []


def test_auxiliary_loss_is_the_sum_over_blocks_of_attended_tokens():
    model = adapted("llava-mole", router_aux_loss_coef=0.5).train()
    found = batch([sample(0, 9), sample(1, 14)])
    with record_routing(model) as seen:
        model(**found)
    loss = auxiliary_loss(model)
    mask = found["attention_mask"].bool()
    expected = sum(0.5 * balance_loss(r.probs, r.indices_a, mask, 3) for r in seen.selections.values())
    torch.testing.assert_close(loss.detach(), expected, **TOL[torch.float32])
    loss.backward()
    assert dead_routers(model) == []
    assert auxiliary_loss(model) is None  # handed over once


def test_uniform_routers_score_one_each():
    model = adapted("llava-mole", router_aux_loss_coef=1.0).train()
    with torch.no_grad():
        for parameter in router_parameters(model).values():
            parameter.zero_()
    model(**batch([sample(0, 9)]))
    torch.testing.assert_close(auxiliary_loss(model).detach(), torch.tensor(2.0))


def test_instances_can_be_balanced_too():
    model = adapted("mixlora", router_aux_loss_coef=0.1).train()
    model(**batch([sample(0, 9), sample(1, 10)]))
    assert auxiliary_loss(model).requires_grad


def test_no_auxiliary_loss_without_a_coefficient():
    model = adapted("mixlora").train()
    model(**batch([sample(0, 9)]))
    assert auxiliary_loss(model) is None
