"""What an interference analysis costs beside training on the same samples, on the pocket model.

    OMP_NUM_THREADS=1 python -m benchmarks.interference --preset lora --rounds 5

In turn, on the same samples: one step of our trainer (collating, forward, backward, AdamW), and one batch of
`mixtune analyse interference` (collating, forward, backward, gradients of each sample in three layers), as directions
and, as in the other half of an analysis, measured against them. The model is loaded twice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from mixtune.analyse.interference import InterferenceSettings
from mixtune.analyse.interference.banks import adapted_linears, choose
from mixtune.analyse.interference.measuring import Measurer
from mixtune.analyse.interference.planning import Unit
from mixtune.analyse.interference.store import PartStore
from mixtune.config import Recipe, load_recipe
from mixtune.data import Collator, Encoder, read_samples
from mixtune.pocket import resolve
from mixtune.training.assemble import Tasks, build_trainer, group_tasks
from mixtune.training.loading import load_model
from mixtune.training.setup import prepare

RECIPE = Path(__file__).parents[1] / "recipes" / "pocket" / "demo.yaml"


def trainer_step(recipe: Recipe, tasks: Tasks) -> Callable[[list], None]:
    """One optimizer step of our trainer on given samples."""
    base, processor = load_model(recipe.model)
    trainer = build_trainer(recipe, prepare(base, recipe), Encoder(processor, recipe.data.max_length), tasks)
    optimizer = trainer.create_optimizer()
    trainer.model.train()

    def step(samples: list) -> None:
        batch = trainer.data.collator(samples)
        trainer.training_step(trainer.model, batch, trainer._get_num_items_in_batch([batch], torch.device("cpu")))
        torch.nn.utils.clip_grad_norm_([p for p in trainer.model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def analysis_batch(recipe: Recipe, tasks: Tasks, folder: Path) -> tuple[Callable[[list], None], Callable[[list], None]]:
    """A batch of directions, and a batch measured against directions of all tasks."""
    base, processor = load_model(recipe.model)
    model = prepare(base, recipe).trained.model.requires_grad_(False).eval()
    settings = InterferenceSettings(batch_size=recipe.train.per_device_train_batch_size)
    collator = Collator(Encoder(processor, recipe.data.max_length), tasks.names)
    linears = choose(adapted_linears(model), settings.layers)
    measurer = Measurer(model, collator, linears, len(tasks.names), settings)
    store = PartStore(folder, "benchmark")
    first = [Unit(number, (tasks.samples[tasks.labels.index(name)],)) for number, name in enumerate(tasks.names)]
    blocks = [store.made(f"directions-{n}", lambda: measurer.direction_block(first)) for n in range(settings.blocks)]

    def units(samples: list) -> list[Unit]:
        return [Unit(tasks.names.index(sample.task), (sample,)) for sample in samples]

    return (
        lambda samples: measurer.direction_block(units(samples)) and None,
        lambda samples: measurer.measured_part(units(samples), blocks) and None,
    )


def seconds(work: Callable[[list], None], samples: list) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    work(samples)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print medians, bests and ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="lora", help="method of the adapter")
    parser.add_argument("--rounds", type=int, default=5, help="batches")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recipe = resolve(load_recipe(RECIPE, [f"adapter.preset={given.preset}", "train.routing_stats_steps=0"]))
    tasks = group_tasks(read_samples(recipe.data)[0], recipe)
    order = list(tasks.sampler)
    with tempfile.TemporaryDirectory() as folder:
        train = trainer_step(recipe, tasks)
        arms = dict(zip(("directions", "measured"), analysis_batch(recipe, tasks, Path(folder)), strict=True))
        found: dict[str, list[float]] = {"training": [], "directions": [], "measured": []}
        for number in range(given.rounds + 1):
            samples = [tasks.samples[place] for place in order[16 * number : 16 * number + 16]]
            row = {name: seconds(work, samples) for name, work in {"training": train, **arms}.items()}
            for name, value in row.items() if number else ():  # the first round warms up
                found[name].append(value)
    for name, values in found.items():
        ratio = median(value / step for value, step in zip(values, found["training"], strict=True))
        line = (
            f"{name:<11} median {median(values):.2f} s, best {min(values):.2f} s a batch of 16; {ratio:.2f} of training"
        )
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
