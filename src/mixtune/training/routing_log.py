"""Routing statistics in the log of a training run, for this package's trainer and any other of transformers' kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback

from mixtune.adapters.statistics import MEASURES, RoutingStatistics
from mixtune.training.logfile import append_record, truncate_log

ROUTING_FILE = "routing_log.jsonl"


class RoutingLog(TrainerCallback):
    """Watches the routers of the model that is trained, and logs what they do whenever the trainer logs its loss.

    The trainer's logs get `routing/entropy`, `routing/evenness` and `routing/dead_share`; `routing_log.jsonl` in
    output_dir gets a line with all of `RoutingStatistics.flush`: every layer, and every task's use of the factors. A
    resumed run cuts the file back to its checkpoint; what the interrupted run had counted since its last log line is
    lost, unless the trainer keeps `statistics.state_dict()`.

    task_names: what the batches' `task_ids` number. every: watch one optimizer step in so many, none if 0.
    Loggers like report_to's are called before callbacks that are given to a trainer; `put_first` goes before them.
    """

    def __init__(self, task_names: Sequence[str] = (), *, every: int = 1) -> None:
        self.statistics = RoutingStatistics(task_names)
        self.every = every

    def put_first(self, trainer: Trainer) -> None:
        """Add this callback to `trainer`, before all others, so that every logger sees its numbers."""
        trainer.callback_handler.callbacks.insert(0, self)

    def publish(self, folder: str | Path, step: int, *, main: bool = True) -> dict[str, float]:
        """Write the line of what was counted up to `step` and return its first numbers; {} if nothing was counted.

        Every process has to call it, since it adds up what they counted; the one that is `main` writes.
        """
        self.combine()
        record = self.statistics.flush()
        if record and main:
            Path(folder).mkdir(parents=True, exist_ok=True)
            append_record(Path(folder) / ROUTING_FILE, {"step": step, **record})
        return {name: record[name] for name in MEASURES if name in record}

    def combine(self) -> None:
        """Give every process the sums of all."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.statistics.combine(_sum_of_all)

    def resume(self, state: list[dict[str, Any]], device: torch.device, *, main: bool) -> None:
        """Take back the `statistics.state_dict()` of the `main` process; the others start from zero."""
        self.statistics.load_state_dict(state, device)
        if not main:
            self.statistics.clear()

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Begin the file, or cut it back to the step the run goes on from."""
        if state.is_world_process_zero:
            truncate_log(Path(args.output_dir) / ROUTING_FILE, state.global_step)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        """Watch this step if it is one in `every`."""
        if self.every and (state.global_step + 1) % self.every == 0:
            self.statistics.attach(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Look away until the next such step."""
        if self.every:
            self.statistics.detach(model)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Add the numbers to a log of the training loss, also where the trainer keeps its history."""
        if "loss" not in (logs or {}) or logs.keys() & prefixed(dict.fromkeys(MEASURES, 0.0)).keys():
            return
        found = self.publish(args.output_dir, state.global_step, main=state.is_world_process_zero)
        numbers = prefixed(found)
        logs.update(numbers)
        if state.log_history:
            state.log_history[-1].update(numbers)


def prefixed(numbers: dict[str, float]) -> dict[str, Any]:
    """Names as loggers group them: `routing/…`."""
    return {f"routing/{name}": value for name, value in numbers.items()}


def _sum_of_all(value: Tensor) -> Tensor:
    torch.distributed.all_reduce(value)
    return value
