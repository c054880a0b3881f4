"""Find the centres of routers before the first step, on training samples of every task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from mixtune.adapters import center_routers, centers
from mixtune.data import Sample
from mixtune.data.progress import progress
from mixtune.routing.prompts import BatchFacts
from mixtune.training.assemble import Tasks
from mixtune.training.logits import supervised_loss
from mixtune.training.trainer import MixtureTrainer

SAMPLES = 256  # in all: a mean of so many is off by a sixteenth of what tells prompts apart


def center_on_samples(
    trainer: MixtureTrainer, tasks: Tasks, say: Callable[..., None], *, samples: int = SAMPLES
) -> None:
    """Give routers with `router_center` the mean prompt of about so many training samples, as many of each task.

    Nothing to do for other adapters. Every process reads the same samples, so that all have the same centres.
    """
    if trainer.hooks is None or not centers(trainer.trained.model):
        return
    chosen = spread(tasks, max(samples // len(tasks.names), 1))
    size = trainer.settings.per_device_train_batch_size
    device = next(trainer.trained.model.parameters()).device  # under FSDP not yet the one that trains
    batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    with center_routers(trainer.trained.model), trainer.compute_loss_context_manager():
        for some in progress(batches, "centering routers", len(batches)):
            batch, _ = trainer.model_inputs({k: v.to(device) for k, v in trainer.data.collator(some).items()})
            supervised_loss(trainer.trained.model, batch, trainer.head, BatchFacts.of(batch, {}, None).owners())
    say(f"centered   routers, on the prompts of {len(chosen)} samples of {len(tasks.names)} task(s)")


def spread(tasks: Tasks, per_task: int) -> list[Sample]:
    """Up to `per_task` samples of each task, evenly spaced over those it has."""
    by_task: dict[str, list[Sample]] = defaultdict(list)
    for label, sample in zip(tasks.labels, tasks.samples, strict=True):
        by_task[label].append(sample)
    return [sample for name in tasks.names for sample in evenly(by_task[name], per_task)]


def evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` of the samples at equal distances, all of them if they are fewer."""
    count = min(count, len(samples))
    return [samples[number * len(samples) // count] for number in range(count)]
