"""How often each task is drawn: the order of samples in an epoch, a pure function of seed and epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from mixtune.config import DataSettings, movable_path, near
from mixtune.data.sample import DataError, Sample


def fingerprint_samples(samples: Sequence[Sample]) -> str:
    """SHA-256 over ids, tasks, messages and image paths, in order: equal for the same data read again, and for what
    mixtune made in another home.
    """
    digest = hashlib.sha256()
    for sample in samples:
        turns = [[message.role, message.text] for message in sample.messages]
        fields = [sample.id, sample.task, turns, [movable_path(image.path) for image in sample.images]]
        digest.update(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def task_quotas(shares: Sequence[float], total: int) -> list[int]:
    """Whole draws per task, `total` in all, nearest to `shares` by largest remainder (first task in ties)."""
    exact = np.asarray(shares, dtype=np.float64) / sum(shares) * total
    quotas = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: total - int(quotas.sum())]] += 1
    return [int(quota) for quota in quotas]


class TaskSampler(Sampler[int]):
    """Positions of samples for one epoch, as long as the data set whatever the tasks' shares.

    "proportional" shuffles all samples. Otherwise task t gets a quota from its share (DataSettings says
    which), drawn without replacement until the task is used up, then again from the start in another order;
    the draws of all tasks are shuffled together. `content` (see `fingerprint_samples`) goes into the
    fingerprint that guards resuming.
    """

    def __init__(
        self,
        task_ids: Sequence[int],
        settings: DataSettings,
        seed: int,
        task_names: Sequence[str],
        content: str = "",
    ):
        self.tasks = np.asarray(task_ids, dtype=np.int64)
        self.settings, self.seed, self.epoch = settings, seed, 0
        self.task_names = tuple(task_names)
        self._members = [np.flatnonzero(self.tasks == number) for number in range(len(self.task_names))]
        self._check_tasks()
        self._quotas = task_quotas(self._shares(), len(self.tasks))
        described = [self.tasks.tolist(), self.task_names, self._quotas, settings.sampling, content]
        self.fingerprint = hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def _check_tasks(self) -> None:
        if not len(self.tasks):
            raise DataError("data.sources: there are no samples to draw from")
        empty = [name for name, members in zip(self.task_names, self._members, strict=True) if not len(members)]
        if empty:
            raise DataError(f"data.sources: no samples of task(s) {', '.join(map(repr, empty))}")
        if self.settings.sampling != "weights":
            return
        unknown = [f"data.weights.{name}: no such task{near(name, self.task_names)}"
                   for name in self.settings.weights if name not in self.task_names]  # fmt: skip
        missing = [f"data.weights: no weight for task '{name}'; 0 leaves it out"
                   for name in self.task_names if name not in self.settings.weights]  # fmt: skip
        if unknown or missing:
            raise DataError("\n".join(unknown + missing))

    def _shares(self) -> list[float]:
        counts = [float(len(members)) for members in self._members]
        if self.settings.sampling == "equal":
            return [1.0] * len(counts)
        if self.settings.sampling == "temperature":
            return [count ** (1 / self.settings.temperature) for count in counts]
        if self.settings.sampling == "weights":
            return [self.settings.weights[name] for name in self.task_names]
        return counts

    @property
    def quotas(self) -> dict[str, int]:
        """Draws of each task in an epoch."""
        return dict(zip(self.task_names, self._quotas, strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        drawn = [self._draw(random, number) for number in range(len(self._members))]
        yield from random.permutation(np.concatenate(drawn)).tolist()

    def _draw(self, random: np.random.Generator, number: int) -> np.ndarray:
        members, quota = self._members[number], self._quotas[number]
        rounds = [random.permutation(members) for _ in range(-(-quota // len(members)))]
        return np.concatenate([*rounds, members[:0]])[:quota]

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch and fingerprint: all there is to an order."""
        return {"seed": self.seed, "epoch": self.epoch, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`. DataError where data, tasks, shares or seed differ from those of then."""
        for name, mine in (("fingerprint", self.fingerprint), ("seed", self.seed)):
            if state.get(name) != mine:
                raise DataError(
                    f"resume: the checkpoint's sampler has {name} {state.get(name)!r}, this run {mine!r}: "
                    "data, tasks, sampling or seed changed; undo the change or start in another output_dir"
                )
        self.epoch = int(state["epoch"])
