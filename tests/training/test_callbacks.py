import pytest
import torch
from torch import nn
from transformers import TrainerControl, TrainerState

from mixtune.training.callbacks import EpochCallback, RouterError, RouterWatch


def steps(watch, loss, *, rate=0.1, count=1, first=0):
    """`count` training steps with the task loss that `loss()` gives; the numbers of steps that were looked at."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    state, looked = TrainerState(global_step=first), []
    for _ in range(count):
        if watch.active:
            watch.look(loss())
            looked.append(state.global_step)
        watch.on_optimizer_step(None, state, TrainerControl(), optimizer=optimizer)
        state.global_step += 1
        watch.on_step_end(None, state, TrainerControl())
    return looked


def test_a_router_that_the_task_loss_moves_is_looked_at_once():
    router = nn.Parameter(torch.ones(2))
    watch = RouterWatch({"layer.router": router})
    assert steps(watch, lambda: (router * 2).sum(), count=6) == [1]
    assert router.grad is None


def test_nothing_is_asked_while_the_learning_rate_was_zero():
    router = nn.Parameter(torch.ones(2))
    watch = RouterWatch({"layer.router": router}, patience=1)
    assert steps(watch, lambda: (router * 0).sum(), rate=0.0, count=5) == []


def test_a_router_without_a_gradient_stops_the_run_by_name():
    alive, dead = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    watch = RouterWatch({"layers.0.alive": alive, "layers.3.dead": dead}, patience=2)
    with pytest.raises(RouterError, match=r"step 3: 1 trained router.*layers\.3\.dead.*gate") as caught:
        steps(watch, lambda: (alive + 0 * dead).sum(), count=9)
    assert "alive" not in str(caught.value)


def test_a_router_that_is_not_in_the_graph_is_dead_too():
    alive, dead = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    watch = RouterWatch({"alive": alive, "dead": dead}, patience=1)
    with pytest.raises(RouterError, match="dead"):
        steps(watch, lambda: alive.sum(), count=3)


def test_frozen_routers_and_resumed_runs():
    assert not RouterWatch({"frozen": nn.Parameter(torch.ones(2), requires_grad=False)}).pending
    watch = RouterWatch({"router": nn.Parameter(torch.ones(2))})
    assert not watch.active
    watch.on_train_begin(None, TrainerState(global_step=40), TrainerControl())
    assert watch.active


@pytest.mark.parametrize(("epoch", "expected"), [(None, 0), (0.4, 0), (1.0, 1), (2.999, 2)])
def test_the_sampler_learns_the_epoch_that_begins(epoch, expected):
    seen = []

    class Sampler:
        def set_epoch(self, number):
            seen.append(number)

    EpochCallback(Sampler()).on_epoch_begin(None, TrainerState(epoch=epoch), TrainerControl())
    assert seen == [expected]
