"""Settings of the benchmarks: one frozen dataclass each, whose fields are the command's options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

RATIOS = str(Path(__file__).with_name("ratios.json"))


def option(default: Any, text: str) -> Any:
    """A field with its default and its line of help. A tuple takes several values on the command line."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every benchmark has. Raises ValueError for fewer than one round or an unknown dtype."""

    rounds: int = option(7, "times each arm is measured at least, in turn with the others; medians are reported")
    seconds: float = option(1.0, "an arm that is quick is measured in more rounds, until the reference took this long")
    threads: int = option(2, "threads torch computes with on a CPU")
    device: str = option("cpu", "cpu, cuda, cuda:1 ...")
    dtypes: tuple[str, ...] = option(("float32", "bfloat16"), "dtypes of the frozen base")
    memory: bool = option(True, "measure the peak memory of each arm too")
    profile: tuple[str, ...] = option((), "arms to print a profile of, by operation")
    out: str = option("runs/benchmarks", "folder of the full results, NAME.json")
    ratios: str = option(RATIOS, "stored ratios to compare with")
    store: bool = option(False, "write this run's ratios over the stored ones")

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds: must be at least 1, got {self.rounds}")
        for name in self.dtypes:
            if not isinstance(getattr(torch, name, None), torch.dtype):
                raise ValueError(f"dtypes: {name!r} is no dtype of torch")


def add_options(parser: argparse.ArgumentParser, kind: type[Settings]) -> None:
    """One option for each field of `kind`: `--field`, or `--no-field` for a flag."""
    for each in fields(kind):
        flag, default, text = f"--{each.name.replace('_', '-')}", each.default, each.metadata["help"]
        if isinstance(default, bool):
            parser.add_argument(flag, default=default, help=text, action=argparse.BooleanOptionalAction)
        elif isinstance(default, tuple):
            element = type(default[0]) if default else str
            parser.add_argument(flag, default=default, help=f"{text} {default}", type=element, nargs="+")
        else:
            parser.add_argument(flag, default=default, help=f"{text} ({default})", type=type(default))


def read_options(given: argparse.Namespace, kind: type[Settings]) -> Any:
    """The settings of a parsed command line. Raises ValueError as `kind` does."""
    values = {each.name: getattr(given, each.name) for each in fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
