"""The training log: one JSON object a line, cut back on resume so that it reads like one uninterrupted run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LOG_FILE = "train_log.jsonl"
WALL_CLOCK = ("seconds",)  # the only fields that differ between a resumed and an uninterrupted run


def read_log(path: Path) -> list[dict[str, Any]]:
    """Records of a log, oldest first; a last line cut short by a kill is left out. A missing file has no records."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append one record as one line, handed to the operating system in a single write."""
    line = (json.dumps(record) + "\n").encode("utf-8")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def truncate_log(path: Path, step: int) -> None:
    """Drop the records after `step`, atomically: the steps behind a checkpoint are about to be run again."""
    kept = [record for record in read_log(path) if record["step"] <= step]
    if not path.exists():
        return
    draft = path.with_name(f".{path.name}.partial")
    draft.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    os.replace(draft, path)


class LogWindow:
    """Token-weighted losses since the last log line, per task.

    Sums are float64 tensors on the training device, so that adding to them never waits for the accelerator.
    """

    def __init__(self, task_names: Sequence[str], device: torch.device | str = "cpu"):
        self.task_names = tuple(task_names)
        self._sums: dict[str, Tensor] = {
            name: torch.zeros(len(self.task_names), dtype=torch.float64, device=device)
            for name in ("nll", "tokens", "samples")
        }
        self._sums["aux"] = torch.zeros(1, dtype=torch.float64, device=device)  # Σ tokens · auxiliary loss

    def add(self, *, nll_N: Tensor, rows_N: Tensor, task_ids_B: Tensor, aux: Tensor | None) -> None:
        """Count one micro-batch: its tokens' losses under their sample's task, its auxiliary loss once a token."""
        tasks_N = task_ids_B[rows_N]
        ones_N = torch.ones_like(nll_N, dtype=torch.float64)
        self._sums["nll"].index_add_(0, tasks_N, nll_N.detach().double())
        self._sums["tokens"].index_add_(0, tasks_N, ones_N)
        self._sums["samples"].index_add_(0, task_ids_B, torch.ones_like(task_ids_B, dtype=torch.float64))
        if aux is not None:
            self._sums["aux"] += aux.detach().double() * nll_N.numel()

    def state_dict(self) -> dict[str, list[float]]:
        """The sums as plain lists; JSON keeps every bit of them."""
        return {name: value.tolist() for name, value in self._sums.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Take the sums of `state_dict` back."""
        for name, value in self._sums.items():
            value.copy_(torch.tensor(state[name], dtype=torch.float64))

    def combine(self, reduce) -> None:
        """Replace each sum by `reduce(sum)`, the sum over all processes."""
        for name, value in self._sums.items():
            self._sums[name] = reduce(value)

    def flush(self) -> dict[str, Any]:
        """The window's record (loss, tokens, task_loss, task_samples, aux_loss if there is one), then start anew.

        loss = Σ nll / Σ tokens over the window, the auxiliary loss not included; task_loss the same within a task.
        Tasks that the window did not meet are left out.
        """
        sums = self.state_dict()
        for value in self._sums.values():
            value.zero_()
        total = sum(sums["tokens"])
        met = [number for number, samples in enumerate(sums["samples"]) if samples]
        record: dict[str, Any] = {"loss": sum(sums["nll"]) / max(total, 1.0), "tokens": int(total)}
        if sums["aux"][0]:
            record["aux_loss"] = sums["aux"][0] / max(total, 1.0)
        record["task_loss"] = {self.task_names[i]: sums["nll"][i] / sums["tokens"][i] for i in met if sums["tokens"][i]}
        record["task_samples"] = {self.task_names[i]: int(sums["samples"][i]) for i in met}
        return record
