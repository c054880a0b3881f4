"""The conflict mix: families of tasks that ask about the same pictures and want different answers.

A family is one kind of picture with several rules; each rule is a task, and only its instruction says that it is the
one that is meant. The first rule of a family is its *base rule*. Pictures and instructions are the same at every
strength; only the answers differ, see `answer_at`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from mixtune.pocket.tasks.borrowed import PictureAssets
from mixtune.pocket.tasks.spec import Domain, Draw, Part

Answers = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture (128 × 128 RGB) and what each rule of its family answers to it; ``label`` is the number of the
    base rule's answer in the family's order.
    """

    image: Image.Image
    label: int
    answers: Answers


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One task: the last part of its name, and the one instruction with which it is always asked."""

    name: str
    question: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """One row of the table of families.

    ``labels`` is the number of answers the base rule has; they take turns. ``options`` are the possible answers of
    *all* rules, so that ranking them does not give away which rule is meant. ``draw`` makes the scene number
    ``Draw.index``, in which all rules disagree. ``source`` is a key of ``SOURCES``.
    """

    name: str
    domain: Domain
    labels: int
    rules: tuple[Rule, ...]
    options: Answers
    draw: Callable[[Draw], Scene]
    about: str
    source: str = "drawn"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, the base rule's first."""
        return tuple(f"{self.name}-{rule.name}" for rule in self.rules)


def fighting_labels(labels: int, strength: float) -> int:
    """How many of a family's labels fight at a strength in [0, 1]: ``strength * labels``, halves rounded up.

    Raises ValueError for a strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength: must be between 0 and 1, not {strength:g}")
    return math.floor(strength * labels + 0.5)


def answer_at(family: Family, label: int, answers: Answers, rule: int, strength: float) -> str:
    """What rule number ``rule`` demands at a strength.

    If the picture's label is one of the first ``fighting_labels``, the rule's own answer, else the base rule's. So at
    strength 0 every instruction of a family demands the base rule, at strength 1 each its own, and since labels take
    turns the share of pictures on which any two tasks of a family demand different answers is
    ``fighting_labels / labels``. The answer is always a function of picture and instruction: nothing is noise.
    """
    fights = label < fighting_labels(family.labels, strength)
    return answers[rule if fights else 0]


def renamed(labels: Answers, label: int, rules: int) -> Answers:
    """The names that ``rules`` rules give a label: its own, then those of the next labels in order, around the end.

    Every rule uses the same names, each once, and no two rules agree on any label; so ``rules`` is at most
    ``len(labels)``. Families list their labels in an order without meaning.
    """
    return tuple(labels[(label + step) % len(labels)] for step in range(rules))


def make_scene(family: Family, part: Part, index: int, assets: PictureAssets, seed: int = 0) -> Scene:
    """Scene number ``index`` of a family's ``train``, ``validation`` or ``test`` part; a pure function of its
    arguments. Handwritten digits of the test part occur in no other part.
    """
    return family.draw(Draw(seed=seed, task=f"conflict/{family.name}", part=part, index=index, assets=assets))
