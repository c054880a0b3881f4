"""What a change of a recipe does to its training step and to its epochs per hour: the real model, data and trainer.

`python -m benchmarks.recipe recipes/pocket/demo.yaml data.feature_cache=true data.packing=true model.dtype=float32`

measures the recipe as it is and with each change by itself, one step of each in turn on the same samples, and says
whether the losses are the same bits. Wall-clock seconds, or with `--cpu` those that the processor worked for this
process: on a machine that does other things too, with one thread, these say what a quiet one would need.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from benchmarks.harness import Case, Measured
from benchmarks.options import Settings
from benchmarks.results import environment, full_result, write_json
from benchmarks.tables import case_table
from mixtune.config import Recipe, load_recipe
from mixtune.data import Encoder, read_samples
from mixtune.pocket import resolve
from mixtune.training.assemble import build_trainer, fit_tasks
from mixtune.training.features import fill_features, plan_features
from mixtune.training.loading import load_model
from mixtune.training.logits import count_supervised
from mixtune.training.setup import prepare
from mixtune.training.trainer import MixtureTrainer

AS_IT_IS = "as it is"
Phase = tuple[str, float]


def build(recipe: Recipe, say: Callable[..., None]) -> MixtureTrainer:
    """The trainer of a recipe, as `mixtune.train` makes it, with its optimizer."""
    torch.manual_seed(recipe.train.seed)
    samples, left_out = read_samples(recipe.data)
    base, processor = load_model(recipe.model)
    encoder = Encoder(processor, recipe.data.max_length)
    tasks = fit_tasks(samples, left_out, encoder, recipe, say)
    prepared = prepare(base, recipe)
    model = prepared.trained.model
    features = plan_features(recipe, model, encoder, tasks.samples)
    if features:
        fill_features(features, recipe, model, encoder, say)
    trainer = build_trainer(recipe, prepared, encoder, tasks, features.store if features else None)
    trainer.create_optimizer()
    if trainer.routing.every:
        trainer.routing.statistics.attach(model)
    model.train()
    return trainer


def step(trainer: MixtureTrainer, samples: Sequence[Any]) -> Iterator[str | float]:
    """One optimizer step on `samples`: the name of each phase when it is done, at last the loss."""
    batch = trainer._prepare_inputs(trainer.data.collator(list(samples)))
    yield "batch"
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=count_supervised(batch["labels"]))
    yield "forward"
    loss.backward()
    yield "backward"
    weights = [weight for group in trainer.optimizer.param_groups for weight in group["params"]]
    torch.nn.utils.clip_grad_norm_(weights, trainer.args.max_grad_norm)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    yield "optimizer"
    yield float(loss.detach())


def timed(trainer: MixtureTrainer, samples: Sequence[Any], clock: Callable[[], float]) -> tuple[list[Phase], float]:
    """(seconds of each phase, the whole as "total"; the loss) of one step."""
    spent: list[Phase] = []
    gc.disable()
    begun = last = clock()
    loss = 0.0
    for each in step(trainer, samples):
        if isinstance(each, float):
            loss = each
            continue
        now = clock()
        spent.append((each, now - last))
        last = now
    gc.enable()
    return [*spent, ("total", last - begun)], loss


def measure(
    trainers: dict[str, MixtureTrainer], rounds: int, cpu: bool
) -> tuple[dict[str, Measured], dict[str, list[float]]]:
    """Seconds and losses of each arm's steps; the first step, which warms up, is left out of the seconds."""
    clock = time.process_time if cpu else time.perf_counter
    first = next(iter(trainers.values()))
    order, size = list(first.data.sampler), first.args.per_device_train_batch_size
    losses: dict[str, list[float]] = {name: [] for name in trainers}
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in trainers}
    for number in range(rounds + 1):
        gc.collect()
        drawn = [first.data.samples[index] for index in order[number * size : (number + 1) * size]]
        for name, trainer in trainers.items():
            spent, loss = timed(trainer, drawn, clock)
            losses[name].append(loss)
            for phase, value in spent if number else ():
                seconds[name].setdefault(phase, []).append(value)
    return {name: Measured(seconds=each) for name, each in seconds.items()}, losses


def main(words: Sequence[str] | None = None, console: Console | None = None) -> None:
    """Measure, print a table and epochs per hour, write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="each is measured by itself")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads torch computes with (%(default)s)")
    parser.add_argument("--cpu", action="store_true", help="count the processor's seconds")
    parser.add_argument("--out", default="runs/benchmarks/recipe.json", help="the result (%(default)s)")
    given, console = parser.parse_args(words), console or Console(width=140)
    torch.set_num_threads(given.threads)
    with TemporaryDirectory() as folder:  # trainers make theirs
        trainers = {}
        for name, changes in {AS_IT_IS: [], **{each: [each] for each in given.changes}}.items():
            settings = load_recipe(given.recipe, [*changes, f"train.output_dir={folder}"])
            trainers[name] = build(resolve(settings), partial(console.print, sep="\n"))
        measured, losses = measure(trainers, given.rounds, given.cpu)
    first = trainers[AS_IT_IS]
    case = Case(
        facts={"recipe": given.recipe, "clock": "processor" if given.cpu else "wall"}, arms={}, reference=AS_IT_IS,
        work=first.args.per_device_train_batch_size, unit="samples",
    )  # fmt: skip
    console.print(case_table(case, measured), "")
    for name, arm in measured.items():
        hourly = 3600 / (arm.median("total") * len(first.data.samples) / case.work)
        same = "the same bits" if losses[name] == losses[AS_IT_IS] else "other bits"
        console.print(f"{name}: {hourly:.1f} epochs an hour, losses {same}", highlight=False)
    plain = Settings(threads=given.threads, rounds=given.rounds)
    result = full_result("recipe", plain, [(case, measured)], [])
    write_json(given.out, {"environment": environment(plain), **result, "losses": losses})


if __name__ == "__main__":
    main()
