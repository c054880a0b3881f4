"""What happens around a training step: epochs reach the task sampler, routers are checked, banks are cast once,
progress is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ProgressCallback, Trainer, TrainerCallback

from mixtune.adapters.hooks import ModelHooks
from mixtune.kernels import Casts


class RouterError(ValueError):
    """A trained router received no gradient from the task loss."""


class EpochCallback(TrainerCallback):
    """Tell the task sampler which epoch begins, also when a run resumes inside one."""

    def __init__(self, sampler):
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        """The epoch is ⌊state.epoch⌋: exact at an epoch's end, where the fraction is 1 by construction."""
        self.sampler.set_epoch(int(state.epoch or 0))


class LastStepLogs(TrainerCallback):
    """Log after the last step too, so that no sample is missing from the log."""

    def on_step_end(self, args, state, control, **kwargs):
        """Ask for a log line at `max_steps`."""
        if state.global_step >= state.max_steps:
            control.should_log = True


class Progress(ProgressCallback):
    """Trainer's progress bar with the time left; losses stand in the bar instead of filling the screen."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Open the bar at the step the run begins with."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description("training")
            self.training_bar.update(state.global_step)
            self.training_bar.initial = state.global_step  # steps of an earlier launch took no time in this one
        self.current_step = state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Show loss and learning rate in the bar."""
        if self.training_bar is not None and "loss" in (logs or {}):
            rate = logs.get("learning_rate", 0.0)
            self.training_bar.set_postfix_str(f"loss {logs['loss']:.3f}, lr {rate:.1e}")


class CastWindow(TrainerCallback):
    """Between two optimizer steps nobody writes parameters, so its micro-batches share the banks' copies in bfloat16.

    Not in a step of one micro-batch, and not where a trainer moves parameters about in between (FSDP, DeepSpeed).
    """

    def __init__(self, trainer: Trainer):
        model: Any = trainer.model
        self.holder = ModelHooks.find(model).holder
        self.moves = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled

    def on_step_begin(self, args, state, control, **kwargs):
        """Begin without copies."""
        self.holder.casts = Casts() if args.gradient_accumulation_steps > 1 and not self.moves else None

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        """Let go of the copies before the parameters change."""
        self.holder.casts = None

    on_step_end = on_train_end = on_pre_optimizer_step

    @contextmanager
    def closed_after(self) -> Iterator[None]:
        """Let go of the copies when the block is left in any way: a run may end between two micro-batches."""
        try:
            yield
        finally:
            self.holder.casts = None


class RouterWatch(TrainerCallback):
    """Rule 5: every trained router gets a non-zero gradient from the task loss, or training stops.

    The first update leaves the B bank zero wherever the learning rate was still zero, and with B at zero no router
    can have a gradient; so looking starts after the first update with a positive rate. `look` takes the gradient of
    the task loss alone (an auxiliary loss would hide a dead router), costs one more backward pass, and is asked for
    only until every router has been seen: normally one or two steps. A router still unseen after `patience` steps
    looked at is an error naming it; several steps are allowed because a router's chosen factors may be untouched.
    """

    def __init__(self, routers: dict[str, nn.Parameter], patience: int = 8):
        self.pending = {name: weight for name, weight in routers.items() if weight.requires_grad}
        self.patience = patience
        self._looked = self._updates = 0
        self._looking = False

    @property
    def active(self) -> bool:
        """True while some router has not been seen learning and there is something to look at."""
        return bool(self.pending) and self._updates > 0

    def look(self, task_loss: Tensor) -> None:
        """Strike off the routers to which `task_loss` (its graph is kept) gives a gradient with a non-zero entry."""
        grads = torch.autograd.grad(task_loss, list(self.pending.values()), retain_graph=True, allow_unused=True)
        alive = {name for name, grad in zip(list(self.pending), grads, strict=True) if grad is not None and grad.any()}
        self.pending = {name: weight for name, weight in self.pending.items() if name not in alive}
        self._looking = True

    def on_train_begin(self, args, state, control, **kwargs):
        """A resumed run has made its updates already."""
        self._updates += state.global_step

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        """Count updates that moved something."""
        if any(group["lr"] > 0 for group in optimizer.param_groups):
            self._updates += 1

    def on_step_end(self, args, state, control, **kwargs):
        """Raise RouterError after `patience` steps looked at."""
        self._looked += self._looking
        self._looking = False
        if not self.pending or self._looked < self.patience:
            return
        named = ", ".join(list(self.pending)[:5]) + (" …" if len(self.pending) > 5 else "")
        raise RouterError(
            f"step {state.global_step}: {len(self.pending)} trained router(s) got no gradient from the task loss in "
            f"{self._looked} steps: {named}. Use a gate that passes gradients (gate: straight-through or multiply), "
            f"or declare the routers frozen (router_trainable: false)."
        )
