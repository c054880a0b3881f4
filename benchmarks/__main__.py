"""The command: `python -m benchmarks layer` measures, prints tables, writes JSON and says what moved."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Threads that wait for each other sleep: a spinning one keeps the one it waits for off a core that others use too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's library greets on the terminal otherwise

import torch
from rich.console import Console

from benchmarks import data, decode, layer, paths, ranking, step
from benchmarks.harness import measure
from benchmarks.options import Settings, add_options, read_options
from benchmarks.results import Ratios, all_ratios, environment, full_result, moved, read_stored, verdicts, write_json
from benchmarks.tables import case_table, verdict_table

BENCHMARKS: dict[str, Any] = {
    "layer": layer, "step": step, "decode": decode, "ranking": ranking, "data": data, "paths": paths
}  # fmt: skip
CONDITIONS = ("device", "instructions", "threads", "waiting", "torch")


def run(name: str, settings: Settings, console: Console) -> None:
    """Measure all cases of benchmark `name`, show and write what was found."""
    torch.set_num_threads(settings.threads)
    conditions = environment(settings)
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()), style="dim")
    results = []
    for case in BENCHMARKS[name].cases(settings):
        results.append((case, measure(case, settings, partial(console.print, highlight=False, markup=False))))
        console.print(case_table(*results[-1]), "")
    judged = verdicts(BENCHMARKS[name].TARGETS, results)
    if judged:
        console.print(verdict_table(judged), "")
    result = {"environment": conditions, **full_result(name, settings, results, judged)}
    write_json(Path(settings.out) / f"{name}.json", result)
    ratios, stored = all_ratios(results), read_stored(settings.ratios)
    before = stored.get(name, {"environment": conditions, "ratios": {}})
    other = [key for key in CONDITIONS if before["environment"].get(key) != conditions[key]]
    compare(ratios, before["ratios"], other, console)
    if settings.store:  # what was stored stays for cases left out this time, if it was measured like this
        kept = {} if other else before["ratios"]
        write_json(settings.ratios, {**stored, name: {"environment": conditions, "ratios": {**kept, **ratios}}})


def compare(ratios: Ratios, before: Ratios, other: Sequence[str], console: Console) -> None:
    """Print what moved from the stored ratios `before`, and what was `other` about the machine then."""
    lines = moved(ratios, before)
    where = f" (stored with another {', '.join(other)})" if other else ""
    if lines:
        title = f"moved by more than 10 % from the stored ratios{where}:"
    elif ratios.keys() & before.keys():
        title = f"no ratio moved by more than 10 % from the stored ones{where}"
    else:
        title = "no ratios of these cases are stored to compare with"
    console.print(title, *(f"  {line}" for line in lines), sep="\n", highlight=False)


def parser() -> argparse.ArgumentParser:
    """The command line: a benchmark and its settings."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks", description="mixtune beside its peers")
    names = whole.add_subparsers(dest="name", required=True)
    for name, benchmark in BENCHMARKS.items():
        text = benchmark.__doc__
        one = names.add_parser(
            name, help=text.split("\n")[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_options(one, benchmark.SETTINGS)
    return whole


def main(words: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Run the command line `words`; 0, or 2 after an error in the settings."""
    given = parser().parse_args(words)
    for kind in (UserWarning, FutureWarning):  # libraries' notes on their own versions
        warnings.filterwarnings("ignore", category=kind)
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    try:
        run(given.name, read_options(given, BENCHMARKS[given.name].SETTINGS), console)
    except ValueError as error:
        console.print(f"error: {error}", style="red")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
