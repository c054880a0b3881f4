"""Token lengths of a recipe's samples, kept as data so that a benchmark of packing needs no assets.

`python -m benchmarks.lengths recipes/pocket/demo.yaml` counts them anew with the recipe's own processor (the pocket
model and its tasks have to be there: `mixtune pocket prepare`) and writes lengths.json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from benchmarks.results import write_json
from mixtune.config import load_recipe
from mixtune.data import Encoder, read_samples
from mixtune.pocket import resolve
from mixtune.training.loading import load_model

FILE = Path(__file__).with_name("lengths.json")
Length = tuple[int, int]
"""Tokens of a sample's prompt, image tokens included, and of its answer, what ends it included."""


def count(path: str) -> dict[str, list[list[int]]]:
    """For each task of the recipe at `path` rows of prompt tokens, answer tokens, samples that have so many."""
    recipe = resolve(load_recipe(path))
    encoder = Encoder(load_model(recipe.model)[1], recipe.data.max_length)
    counts: dict[str, Counter[Length]] = {}
    for sample in read_samples(recipe.data)[0]:
        prompt = encoder.encode(sample)["prompt_mask"]
        counts.setdefault(sample.task, Counter())[int(prompt.sum()), int((~prompt).sum())] += 1
    return {task: [[*length, number] for length, number in sorted(found.items())] for task, found in counts.items()}


def draw_pocket(batch: int, seed: int = 0) -> list[Length]:
    """Lengths of `batch` samples of the pocket mix, each task equally likely, as in its recipe."""
    tasks = json.loads(FILE.read_text(encoding="utf-8"))["tasks"]
    random, found = Random(seed), []
    for name in random.choices(sorted(tasks), k=batch):
        ((prompt, answer, _),) = random.choices(tasks[name], weights=[row[2] for row in tasks[name]])
        found.append((prompt, answer))
    return found


def draw_varied(batch: int, seed: int = 0) -> list[Length]:
    """Made-up lengths, from 32 to 512 tokens, shorter ones more often (log-uniform), answers of 16."""
    random = Random(seed)
    return [(round(32 * 16 ** random.random()) - 16, 16) for _ in range(batch)]


def main(words: Sequence[str] | None = None) -> None:
    """Write the lengths of the recipe named in `words`, in one rename."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks.lengths", description=__doc__)
    whole.add_argument("recipe", nargs="?", default="recipes/pocket/demo.yaml", help="default: %(default)s")
    path = whole.parse_args(words).recipe
    what = "tokens of prompt (16 image tokens included), tokens of answer (with the token that ends it), samples"
    write_json(FILE, {"command": f"python -m benchmarks.lengths {path}", "rows": what, "tasks": count(path)})


if __name__ == "__main__":
    main()
