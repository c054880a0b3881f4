"""The blind control: the same questions with pictures that do not belong to them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

from mixtune.data.sample import ImageRef, Sample

SUFFIX = ":blind"


def blind(samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """Each sample with the picture of another sample of its task; question, options and right answer stay.

    What a model still gets right it did not see. A task's different pictures (of as many images a sample) stand on one
    circle in a random order, and each gives way to the next; so no sample keeps its picture, and samples that shared
    one still do. A pure function of the samples and
    `seed`; ids get ":blind" appended. A sample without images stays as it is. Raises ValueError naming a task that has
    a single picture.
    """
    pictures: dict[tuple[str, int], dict[tuple[str, ...], tuple[ImageRef, ...]]] = {}
    for sample in samples:
        if sample.images:
            pictures.setdefault((sample.task, len(sample.images)), {})[_paths(sample)] = sample.images
    swapped = {group: _next_on_circle(*group, found, seed) for group, found in pictures.items()}
    return [
        dataclasses.replace(
            sample,
            id=f"{sample.id}{SUFFIX}",
            images=swapped[sample.task, len(sample.images)][_paths(sample)] if sample.images else (),
        )
        for sample in samples
    ]


def _paths(sample: Sample) -> tuple[str, ...]:
    return tuple(image.path for image in sample.images)


def _next_on_circle(
    task: str, count: int, pictures: dict[tuple[str, ...], tuple[ImageRef, ...]], seed: int
) -> dict[tuple[str, ...], tuple[ImageRef, ...]]:
    """For each key the pictures that follow its own on the circle."""
    if len(pictures) < 2:
        raise ValueError(f"task {task!r}: a blind control needs two different pictures; all its samples show one")
    keys = sorted(pictures)
    order = np.random.default_rng([seed, zlib.crc32(task.encode()), count]).permutation(len(keys))
    circle = [keys[int(number)] for number in order]
    return {key: pictures[after] for key, after in zip(circle, [*circle[1:], circle[0]], strict=True)}
