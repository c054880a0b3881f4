"""The first optimizer step of any trainer, and whether two are the same. Used by the tests of training."""

import torch
from transformers import TrainerCallback

from tolerances import TOL

SPLITS = ((4, 1), (1, 4), (2, 2))  # the same four samples as micro-batch size and accumulation steps
# An auxiliary loss that counts, and adds up over micro-batches.
AUX = {"router_aux_loss_coef": 0.5, "router_aux_loss_scope": "sample"}


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimizer step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def first_gradients(trainer):
    """By name, after training with a `Gradients` callback."""
    trainer.train()
    return next(c for c in trainer.callback_handler.callbacks if isinstance(c, Gradients)).found


def assert_same(left, right):
    """Equal names, and values within the tolerance of float32."""
    assert left.keys() == right.keys() and left
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], **TOL[torch.float32], msg=lambda t, name=name: f"{name}: {t}")
