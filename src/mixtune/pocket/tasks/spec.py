"""What a task is: a row of data with a function that draws one example, and the seeded state that function may use."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from mixtune.pocket.tasks.borrowed import PictureAssets

Domain = Literal["general", "document", "science", "spatial"]
Split = Literal["seen", "unseen"]
Part = Literal["train", "validation", "test", "caption"]
T = TypeVar("T")

DOMAINS: tuple[str, ...] = ("general", "document", "science", "spatial")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question about one picture: ``answer`` is one of ``options``; the picture is 128 × 128 RGB."""

    image: Image.Image
    question: str
    answer: str
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One row of the table of tasks.

    ``split`` says whether the task is trained on; ``family`` names the kind of picture, shared by the tasks
    that show it; ``make`` draws example number ``Draw.index``; ``source`` is a key of ``SOURCES``.
    """

    name: str
    domain: Domain
    split: Split
    family: str
    make: Callable[[Draw], Example]
    about: str
    source: str = "drawn"


def task(
    domain: Domain,
    split: Split,
    name: str,
    family: str,
    make: Callable[[Draw], Example],
    about: str,
    source: str = "drawn",
) -> TaskSpec:
    """A row of the table of tasks, short enough for one line (see ``TaskSpec``)."""
    return TaskSpec(name=name, domain=domain, split=split, family=family, make=make, about=about, source=source)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The state of one example: its own random generator, seeded from
    (seed, task, part, index), and the borrowed pictures.

    Nothing here depends on which examples were made before, so any example can be made alone and comes out the same.
    """

    seed: int
    task: str
    part: Part
    index: int
    assets: PictureAssets
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        key = zlib.crc32(f"{self.task}/{self.part}".encode())
        object.__setattr__(self, "rng", np.random.default_rng([self.seed, key, self.index]))

    def turn(self, count: int, salt: str = "", every: int = 1) -> int:
        """A number below ``count`` that moves on after ``every`` examples, in a seeded random order in which
        each value comes once before any comes again.
        """
        block, place = divmod(self.index // every, count)
        key = zlib.crc32(f"{self.task}/{self.part}/turn/{salt}".encode())
        return int(np.random.default_rng([self.seed, key, block]).permutation(count)[place])

    def take_turn(self, items: Sequence[T], salt: str = "", every: int = 1) -> T:
        """The item whose turn it is (see ``turn``): every answer equally often."""
        return items[self.turn(len(items), salt, every)]

    def pick(self, items: Sequence[T]) -> T:
        """One item at random."""
        return items[int(self.rng.integers(len(items)))]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` different items at random."""
        return [items[int(i)] for i in self.rng.permutation(len(items))[:count]]

    def uniform(self, low: float, high: float) -> float:
        """A real number between ``low`` and ``high``."""
        return float(self.rng.uniform(low, high))

    def options(self, answer: str, others: Sequence[str], count: int) -> tuple[str, ...]:
        """``answer`` with ``count - 1`` different wrong ones out of ``others``, shuffled."""
        wrong = self.sample([item for item in dict.fromkeys(others) if item != answer], count - 1)
        return tuple(self.sample([answer, *wrong], count))


def listed(options: Sequence[str]) -> str:
    """'a, b, c or d'."""
    return f"{', '.join(options[:-1])} or {options[-1]}"


def with_article(noun: str) -> str:
    """'a dog', 'an apple'."""
    vowel = noun[0] in "aeiou" and not noun.startswith(("eu", "uni", "one"))
    return f"{'an' if vowel else 'a'} {noun}"
