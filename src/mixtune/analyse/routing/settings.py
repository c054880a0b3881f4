"""Settings of the routing analysis."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mixtune.config import Settings
from mixtune.config.settings import Count, Text


class RoutingSettings(Settings):
    """How selections are recorded and compared.

    per_task: at most so many samples of a task, drawn by `seed`. redraws: how many untrained routers the trained one is
    held against; the first is the one in pictures and tables. layers: those with a map and a purity of their own,
    beside all of them together: shallow, middle, deep, or numbers. neighbours: k of the nearest-neighbour accuracy.
    perplexity: of t-SNE (less where there are few samples). confidence: of the intervals. batch_size and max_length
    (tokens) as in an evaluation.
    """

    per_task: Count = 20
    redraws: Count = 4
    layers: Text = "shallow,middle,deep"
    neighbours: Count = 5
    perplexity: Annotated[float, Field(ge=1)] = 30.0
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    batch_size: Count = 32
    max_length: Annotated[int, Field(ge=2)] = 1024
    seed: int = 0
