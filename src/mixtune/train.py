"""Train one recipe, told as it happens: what is frozen, what trains, on what, for how long, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import set_seed

from mixtune.config import Recipe, expand_path
from mixtune.data import Encoder, read_samples
from mixtune.training import checkpoint as store
from mixtune.training.arguments import check_names
from mixtune.training.assemble import Tasks, build_trainer, fit_tasks
from mixtune.training.centering import center_on_samples
from mixtune.training.dryrun import rehearse
from mixtune.training.features import fill_features, plan_features
from mixtune.training.finish import save_run
from mixtune.training.loading import load_model, meta_model
from mixtune.training.logfile import LOG_FILE, truncate_log
from mixtune.training.plan import budget, budget_lines, data_lines, model_lines
from mixtune.training.setup import Prepared, count_parameters, is_main_process, prepare
from mixtune.training.trainer import MixtureTrainer
from mixtune.training.warm import warm_start_projector


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where a run lies, and its numbers: loss and task_loss of its last tenth, steps, samples, tokens, seconds."""

    output_dir: Path
    metrics: dict[str, Any]


def train(recipe: Recipe, *, resume: bool = True, dry_run: bool = False) -> TrainResult:
    """Run a recipe to its end and return where it lies.

    Everything that can be wrong is asked before the base is loaded: the folder, the disk, an earlier run in that
    folder, the data. With `resume` an interrupted run goes on from its newest checkpoint, to the same bits as an
    uninterrupted one, and a finished one is only reported; without, what it left is discarded. `dry_run` checks the
    recipe and trains two steps in a folder that is thrown away (see `training.dryrun`).

    Raises ValueError (ConfigError, DataError, ModelError, CheckpointError,
    RouterError) with the field, file or line to change.
    """
    recipe = _with_places(recipe)
    if recipe.train.num_threads:
        torch.set_num_threads(recipe.train.num_threads)
    if dry_run:
        return TrainResult(output_dir=Path(recipe.train.output_dir), metrics=rehearse(recipe, say))

    check_names(recipe.train)
    folder = Path(recipe.train.output_dir)
    finished, checkpoint = open_folder(folder, recipe, resume)
    if finished:
        say(f"finished   {folder}: this recipe has been run to its end; --no-resume runs it again")
        return TrainResult(output_dir=folder, metrics=finished["metrics"])

    samples, left_out = read_samples(recipe.data)
    base, processor = load_model(recipe.model)
    encoder = Encoder(processor, recipe.data.max_length)
    tasks = fit_tasks(samples, left_out, encoder, recipe, say)
    spent = budget(recipe, len(tasks.samples))
    say(*data_lines(tasks.labels, recipe))
    if checkpoint:
        store.check_same_data(checkpoint, tasks.sampler.state_dict()["fingerprint"])

    frozen = sum(weight.numel() for weight in base.parameters())
    prepared = prepare(base, recipe)
    say(*model_lines(recipe, prepared.parameters, frozen), *budget_lines(recipe, spent))
    store.check_disk(folder, parameters=prepared.total, checkpoints=spent.checkpoints(recipe))
    features = plan_features(recipe, prepared.trained.model, encoder, tasks.samples)

    start_folder(folder, recipe, checkpoint, resume)
    if recipe.train.warm_start_steps and recipe.train.stage == "align" and not checkpoint:
        set_seed(recipe.train.seed)
        losses = warm_start_projector(base, processor, tasks.samples, recipe.train)
        say(f"warm start loss {losses[0]:.3f} → {losses[-1]:.3f} without the language model")
    if features:
        fill_features(features, recipe, prepared.trained.model, encoder, say)
    trainer = build_trainer(recipe, prepared, encoder, tasks, features.store if features else None)
    if not checkpoint:
        center_on_samples(trainer, tasks, say)
    run_steps(trainer, prepared, checkpoint)
    return finish(trainer, recipe, prepared, tasks)


def say(*lines: str) -> None:
    """Tell the user, once a launch."""
    if is_main_process():
        for line in lines:
            Console(highlight=False, soft_wrap=True, markup=False).print(line)


def _with_places(recipe: Recipe) -> Recipe:
    """The recipe with `~` and variables in its output folder filled in."""
    train_settings = recipe.train.model_copy(update={"output_dir": expand_path(recipe.train.output_dir)})
    return recipe.model_copy(update={"train": train_settings})


def open_folder(folder: Path, recipe: Recipe, resume: bool) -> tuple[dict[str, Any] | None, Path | None]:
    """(result of a finished run or None, newest checkpoint or None), after asking for rights and room.

    Nothing is written. Raises CheckpointError if the folder cannot be written, the disk is too full, or the folder
    holds a run of another recipe.
    """
    store.check_writable(folder)
    limit = recipe.train.save_total_limit or 1
    store.check_disk(folder, parameters=expected_parameters(recipe), checkpoints=limit + 1)
    checkpoints = store.list_checkpoints(folder)
    if not resume or not (checkpoints or (folder / store.RESULT_FILE).exists()):
        return None, None
    store.check_same_recipe(folder, recipe)
    if (folder / store.RESULT_FILE).exists():
        return store.read_json(folder / store.RESULT_FILE), None
    return None, checkpoints[-1]


def expected_parameters(recipe: Recipe) -> int:
    """How many parameters will train, from the base's shapes alone; 0 where its configuration is not at hand."""
    model = meta_model(recipe.model)
    return 0 if model is None else sum(count_parameters(model, recipe).values())


def start_folder(folder: Path, recipe: Recipe, checkpoint: Path | None, resume: bool) -> None:
    """Make the run's folder ready: no leftovers of a kill, the recipe recorded, the log cut back to the checkpoint."""
    if not is_main_process():
        return
    folder.mkdir(parents=True, exist_ok=True)
    store.clean_leftovers(folder)
    if not resume:
        store.begin_anew(folder)
    store.record_recipe(folder, recipe)
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    truncate_log(folder / LOG_FILE, step)
    if checkpoint:
        say(f"resuming   from {checkpoint}")


def run_steps(trainer: MixtureTrainer, prepared: Prepared, checkpoint: Path | None) -> None:
    """Train, from a checkpoint if there is one; one that was made at the last step has nothing left to train."""
    if checkpoint is None:
        trainer.train()
        return
    state = store.read_json(checkpoint / "trainer_state.json")
    if state["global_step"] >= state["max_steps"]:
        prepared.trained.load(checkpoint)
        return
    trainer.restore(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint))


def finish(trainer: MixtureTrainer, recipe: Recipe, prepared: Prepared, tasks: Tasks) -> TrainResult:
    """Write the run's final files and say its loss."""
    folder = Path(recipe.train.output_dir)
    metrics: dict[str, Any] = {}
    if trainer.is_world_process_zero():
        metrics = save_run(folder, recipe, prepared, tasks.labels)
        say(f"finished   loss {metrics['loss']:.3f} after {metrics['steps']:,} steps; written to {folder}")
    trainer.accelerator.wait_for_everyone()
    return TrainResult(output_dir=folder, metrics=metrics)
