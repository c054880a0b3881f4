"""From a recipe's samples to a trainer: tasks and their sampler, encoder and collator, arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mixtune.config import Recipe
from mixtune.data import BadSample, Collator, Encoder, Sample, TaskSampler, fingerprint_samples, fit_samples
from mixtune.data.features import FeatureCollator, FeatureStore
from mixtune.training.arguments import training_arguments
from mixtune.training.packing import attention_width, check_packing
from mixtune.training.setup import Prepared
from mixtune.training.tower import split_tower
from mixtune.training.trainer import MixtureTrainer, RunData


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The samples, each one's task, the names of all tasks, and the sampler that draws from them."""

    samples: Sequence[Sample]
    labels: list[str]
    names: tuple[str, ...]
    sampler: TaskSampler


def group_tasks(samples: Sequence[Sample], recipe: Recipe) -> Tasks:
    """Samples with the sampler over their tasks that data.sampling and train.seed describe."""
    labels = [sample.task for sample in samples]
    names = tuple(sorted(set(labels)))
    numbers = [names.index(label) for label in labels]
    sampler = TaskSampler(numbers, recipe.data, recipe.train.seed, names, fingerprint_samples(samples))
    return Tasks(samples=samples, labels=labels, names=names, sampler=sampler)


def fit_tasks(
    samples: Sequence[Sample], left_out: Sequence[BadSample], encoder: Encoder, recipe: Recipe, say: Callable[..., None]
) -> Tasks:
    """The samples that the processor can encode within data.max_length, as tasks; say which were left out.

    All are measured before training starts, so that no run stops half-way at one. Raises DataError, listing them, if
    unreadable and unfit samples together are more than data.max_bad, or if none is left.
    """
    fit, left_out = fit_samples(samples, encoder, recipe.data.max_bad, left_out)
    say(*[f"left out   {bad}" for bad in left_out])
    return group_tasks(fit, recipe)


def build_trainer(
    recipe: Recipe, prepared: Prepared, encoder: Encoder, tasks: Tasks, features: FeatureStore | None = None
) -> MixtureTrainer:
    """The trainer of a prepared model on these tasks; `features` holds what the vision tower made of their pictures.

    Raises DataError if samples are to be packed and cannot be.
    """
    width = attention_width(prepared.trained.model) if recipe.data.packing else None
    collator = Collator(encoder, tasks.names, packed=recipe.data.packing, width=width)
    if recipe.data.packing:
        check_packing(prepared.trained.model, encoder, tasks.samples)
    collate = FeatureCollator(collator, features) if features else collator
    at_once = 1 if features else recipe.train.vision_batch_size
    if at_once:
        split_tower(prepared.trained.model, at_once)
    return MixtureTrainer(
        trained=prepared.trained,
        args=training_arguments(recipe.train, recipe.data),
        settings=recipe.train,
        data=RunData(samples=tasks.samples, collator=collate, sampler=tasks.sampler, task_names=tasks.names),
        hooks=prepared.hooks,
    )
