"""Settings of the interference analysis."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mixtune.config import Settings
from mixtune.config.settings import Count, Names, Positive, Text

STATISTICS = ("resamples", "confidence")


class InterferenceSettings(Settings):
    """How interference is measured.

    layers: "shallow,middle,deep" (any of them: the layer in the middle of the first, second and last third), "all", or
    numbers. linears: last parts of the names of the linears, all if none is named. per_task: at most so many samples of
    a task, drawn by `seed`. One half gives directions, in `blocks` blocks; the other is measured against them. unit:
    samples of one task whose gradients are averaged before they are normalised and measured; 1 is the score of METHODS,
    more are per-batch gradients. lookahead: λ of the exact form; None gives the first-order form alone. resamples and
    confidence: of the bootstrap. batch_size and max_length (tokens) as in training.
    """

    layers: Text = "shallow,middle,deep"
    linears: Names = ()
    per_task: Count = 200
    blocks: Annotated[int, Field(ge=2)] = 5
    unit: Count = 1
    lookahead: Positive | None = None
    batch_size: Count = 16
    max_length: Annotated[int, Field(ge=2)] = 1024
    resamples: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    seed: int = 0
