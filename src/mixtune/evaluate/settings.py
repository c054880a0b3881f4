"""Settings of an evaluation."""

from __future__ import annotations

from pydantic import Field

from mixtune.config import Settings


class EvaluateSettings(Settings):
    """How a model is questioned and how its answers are counted.

    ``batch_size`` samples share a forward pass; it changes speed and memory and, by the rounding of bfloat16, a few
    answers. ``max_length`` tokens a prompt; ``max_new_tokens`` tokens a greedy answer.
    ``greedy`` and ``rank`` choose the ways to answer. ``confidence`` is the level of every interval.
    ``record_usage`` keeps which factors or experts each sample used, if the model has any. ``resume`` goes on with the
    answers an interrupted evaluation left in the folder; without it they are discarded.
    """

    batch_size: int = Field(default=32, ge=1)
    max_length: int = Field(default=1024, ge=2)
    max_new_tokens: int = Field(default=8, ge=1)
    greedy: bool = True
    rank: bool = True
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    record_usage: bool = True
    resume: bool = True


SPLITS = ("seen", "unseen")


class TaskGroup(Settings):
    """Where a task stands in the tables: its ``domain``, and its ``split`` ("seen" or "unseen")."""

    domain: str = ""
    split: str = "seen"
