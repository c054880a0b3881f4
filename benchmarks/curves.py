"""Whether a recipe's loss curve in bfloat16 is that in float32, within noise: the same seeds trained in both dtypes.

`python -m benchmarks.curves` trains the pocket recipe (it needs the pocket assets: `mixtune pocket prepare`; some 25
minutes on one core; runs that are finished are not repeated), prints a table and writes the curves and what they say.

A seed fixes the start and the order of the samples, so that bfloat16 minus float32 is taken seed by seed. Compared is
the mean loss over each ten steps. Within noise: the 95 % t interval of the paired difference holds 0, and its mean is
no more than the standard deviation between seeds in float32.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.options import Settings
from benchmarks.results import environment, write_json
from benchmarks.tables import PLAIN
from mixtune.training.logfile import LOG_FILE, read_log

DTYPES = ("float32", "bfloat16")
WINDOW = 10  # steps that are averaged: those of one step depend on sixteen samples
LEVEL = 0.95
Curves = Mapping[str, Mapping[str, Sequence[float]]]
"""Loss of each step by dtype and seed."""


def train(given: argparse.Namespace, dtype: str, seed: int) -> list[float]:
    """The loss of each step of one run, trained unless it lies there finished.

    Raises CalledProcessError if the training fails.
    """
    folder = Path(given.folder) / f"{dtype}-seed{seed}"
    changes = {
        "model.dtype": dtype, "train.seed": seed, "train.max_steps": given.steps, "train.logging_steps": 1,
        "train.save_steps": given.steps, "train.num_threads": given.threads, "train.output_dir": folder,
    }  # fmt: skip
    words = [given.recipe, *(f"{name}={value}" for name, value in changes.items())]
    subprocess.run([sys.executable, "-m", "mixtune", "train", *words], check=True)
    return [record["loss"] for record in read_log(folder / LOG_FILE)]


def compare(curves: Curves) -> list[dict[str, Any]]:
    """For each window of steps: mean and standard deviation over seeds in each dtype, and the paired difference.

    Raises ValueError for fewer than two seeds, of which there is no deviation, or seeds that are not the same.
    """
    whole, half = (curves[dtype] for dtype in DTYPES)
    if len(whole) < 2 or whole.keys() != half.keys():
        raise ValueError(f"seeds: {list(whole)} and {list(half)}; both dtypes need the same ones, two at least")
    steps = min(len(curve) for each in curves.values() for curve in each.values())
    return [_window(whole, half, slice(first, first + WINDOW)) for first in range(0, steps - WINDOW + 1, WINDOW)]


def _window(whole: Mapping[str, Sequence[float]], half: Mapping[str, Sequence[float]], steps: slice) -> dict[str, Any]:
    means = [[mean(each[seed][steps]) for seed in whole] for each in (whole, half)]
    differences = [b - a for a, b in zip(*means, strict=True)]
    spread, middle = stdev(means[0]), mean(differences)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * stdev(differences) / len(differences) ** 0.5
    return {
        "steps": [steps.start + 1, steps.stop],
        **{name: {"mean": mean(each), "between_seeds": stdev(each), "seeds": each} for name, each in
           zip(DTYPES, means, strict=True)},
        "difference": {"mean": middle, "interval": [middle - reach, middle + reach], "seeds": differences},
        "within_noise": abs(middle) <= min(reach, spread),
    }  # fmt: skip


def table(windows: Sequence[Mapping[str, Any]]) -> Table:
    """One row a window."""
    made = Table(title="mean loss ± standard deviation between seeds", **PLAIN)
    for heading in ("steps", *DTYPES, f"{DTYPES[1]} − {DTYPES[0]} [95 %]", ""):
        made.add_column(heading, no_wrap=True)
    for each in windows:
        low, high = each["difference"]["interval"]
        made.add_row(
            "{} to {}".format(*each["steps"]),
            *(f"{each[dtype]['mean']:.3f} ± {each[dtype]['between_seeds']:.3f}" for dtype in DTYPES),
            f"{each['difference']['mean']:+.3f} [{low:+.3f}, {high:+.3f}]",
            "within noise" if each["within_noise"] else "[red]not within noise[/]",
        )
    return made


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--recipe", default="recipes/pocket/demo.yaml", help="what is trained (%(default)s)")
    made.add_argument("--steps", type=int, default=40, help="steps of a run and of its schedule (%(default)s)")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(%(default)s)")
    made.add_argument("--threads", type=int, default=1, help="threads torch computes with (%(default)s)")
    made.add_argument("--folder", default="runs/curves", help="where the runs lie (%(default)s)")
    made.add_argument("--out", default="runs/benchmarks/curves.json", help="the result (%(default)s)")
    return made


def main(words: Sequence[str] | None = None, console: Console | None = None) -> None:
    """Train what is not trained yet, seed after seed, then compare."""
    given = parser().parse_args(words)
    curves: dict[str, dict[str, list[float]]] = {dtype: {} for dtype in DTYPES}
    for seed in given.seeds:
        for dtype in DTYPES:
            curves[dtype][str(seed)] = train(given, dtype, seed)
    windows = compare(curves)
    torch.set_num_threads(given.threads)  # so that the result says what the runs had
    (console or Console(width=None if sys.stdout.isatty() else 140)).print(table(windows))
    settings = {name: value for name, value in vars(given).items() if name not in ("folder", "out")}
    where = environment(Settings(threads=given.threads))
    write_json(given.out, {"environment": where, "settings": settings, "windows": windows, "curves": curves})


if __name__ == "__main__":
    main()
