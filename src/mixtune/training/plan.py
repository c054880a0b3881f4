"""A run in numbers before it starts: its steps, what it keeps on disk, and the sentences that say so."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mixtune.config import Recipe

SHOWN_TASKS = 12


@dataclass(frozen=True, kw_only=True)
class Budget:
    """samples: in the data. batch: samples an optimizer step. steps: optimizer steps. epochs: passes they make."""

    samples: int
    batch: int
    steps: int
    epochs: float

    def checkpoints(self, recipe: Recipe) -> int:
        """Checkpoints on disk at the fullest moment: those kept and the one being written."""
        written = math.ceil(self.steps / recipe.train.save_steps)
        return min(written, recipe.train.save_total_limit or written) + 1


def budget(recipe: Recipe, samples: int) -> Budget:
    """Count a run's steps as Trainer does (the last, smaller batch of an epoch is a batch)."""
    settings = recipe.train
    world = int(os.environ.get("WORLD_SIZE", "1"))
    batches = math.ceil(samples / (settings.per_device_train_batch_size * world))
    per_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.num_train_epochs * per_epoch)
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * world
    return Budget(samples=samples, batch=batch, steps=steps, epochs=steps / per_epoch)


def data_lines(tasks: Sequence[str], recipe: Recipe) -> list[str]:
    """What is trained on: samples, tasks, sampling, and the samples of each task."""
    counts = Counter(tasks)
    lines = [f"data       {len(tasks):,} samples of {len(counts)} task(s), sampling {recipe.data.sampling}"]
    for task, count in sorted(counts.items())[:SHOWN_TASKS]:
        lines.append(f"             {task}: {count:,}")
    if len(counts) > SHOWN_TASKS:
        lines.append(f"             and {len(counts) - SHOWN_TASKS} more tasks")
    return lines


def model_lines(recipe: Recipe, parameters: dict[str, int], frozen: int) -> list[str]:
    """What is frozen and what trains, in numbers."""
    total = sum(parameters.values())
    model = recipe.model
    lines = [f"frozen     {model.name_or_path}: {frozen:,} parameters in {model.dtype}, vision tower in eval mode"]
    alone = "the projector alone" if recipe.train.stage == "align" else "the language model itself"
    what = f"preset {recipe.adapter.preset}" if recipe.adapter else f"stage {recipe.train.stage}: {alone}"
    lines.append(f"trained    {total:,} parameters in float32 ({total / max(frozen, 1):.2%} of the base; {what})")
    lines += [f"             {part}: {count:,}" for part, count in parameters.items() if count]
    return lines


def budget_lines(recipe: Recipe, spent: Budget) -> list[str]:
    """How long the run is and what it does with its steps."""
    settings = recipe.train
    rate = f"learning rate {settings.learning_rate:g}"
    own = {"projector": settings.projector_learning_rate, "routers": settings.router_learning_rate}
    if any(own.values()):
        rate += f" ({', '.join(f'{part} {value:g}' for part, value in own.items() if value)})"
    warm = f"{settings.warm_start_steps:,} warm-start steps, then " if settings.warm_start_steps else ""
    return [
        f"budget     {warm}{spent.steps:,} steps of {spent.batch} samples = {spent.epochs:.2f} epoch(s)",
        f"             {rate}, {settings.lr_scheduler_type}, warm-up {settings.warmup_ratio:.0%}, seed {settings.seed}",
        f"saved      every {settings.save_steps} steps in {settings.output_dir}",
    ]
