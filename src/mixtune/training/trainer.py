"""transformers' Trainer with what a multi-task mixture needs: its own loss, sampler, log and checkpoints.

No autocast is used. Frozen weights are in the recipe's dtype already, the adapter computes in its base's dtype, and
trained copies of whole modules compute in float32 (`parts.hold_in_float32`), so training runs the arithmetic that
evaluation runs on a prompt (token by token a narrow linear is rounded once more, docs/kernels.md).
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ProgressCallback, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from mixtune.adapters.breakdown import part_of
from mixtune.adapters.hooks import OWN_KEYS
from mixtune.config import TrainSettings
from mixtune.routing.prompts import BatchFacts
from mixtune.routing.scope import RoutingScope
from mixtune.training import checkpoint as store
from mixtune.training.callbacks import CastWindow, EpochCallback, LastStepLogs, Progress, RouterWatch
from mixtune.training.logfile import LOG_FILE, LogWindow, append_record
from mixtune.training.logits import count_supervised, supervised_loss
from mixtune.training.parts import Trained, vision_tower
from mixtune.training.routing_log import RoutingLog, prefixed


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run reads: samples, the collator that makes batches of them, the task sampler, the tasks' names."""

    samples: Sequence[Any]
    collator: Callable[[list[Any]], dict[str, Tensor]]
    sampler: Any
    task_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RoutingHooks:
    """What an adapter tells the trainer: its auxiliary loss after a forward, and its router parameters by name."""

    auxiliary_loss: Callable[[nn.Module], Tensor | None]
    routers: dict[str, nn.Parameter]


def check_finite(window: Mapping[str, Any], step: int) -> None:
    """Raises ValueError naming the step and the tasks if a log window's loss is not a finite number."""
    if not math.isfinite(window["loss"]):
        tasks = [task for task, loss in window["task_loss"].items() if not math.isfinite(loss)]
        raise ValueError(f"step {step}: the loss is {window['loss']} (tasks {tasks}); lower train.learning_rate")


class MixtureTrainer(Trainer):
    """Trains `trained.model` on `data`.

    Loss of an optimizer step, over all micro-batches and processes of its accumulation window:
    Σ nll / N + Σ_m (n_m / N) · aux_m, with N the window's supervised tokens and n_m those of micro-batch m, so that
    4×1, 2×2 and 1×4 samples give the same step.
    """

    def __init__(
        self,
        *,
        trained: Trained,
        args: TrainingArguments,
        settings: TrainSettings,
        data: RunData,
        hooks: RoutingHooks | None = None,
    ):
        args._n_gpu = min(args.n_gpu, 1)  # several GPUs mean several processes here, never DataParallel replicas
        super().__init__(model=trained.model, args=args, data_collator=data.collator, train_dataset=data.samples)
        self.trained, self.settings, self.data, self.hooks = trained, settings, data, hooks
        self.window = LogWindow(data.task_names, args.device)
        self.watch = RouterWatch(hooks.routers if hooks else {})
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = True  # compute_loss divides by the window's N
        unwrapped: Any = trained.model
        self._still, self.head = vision_tower(unwrapped), unwrapped.get_output_embeddings()
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._draft: Path | None = None
        for unwanted in (ProgressCallback, PrinterCallback):
            self.remove_callback(unwanted)
        self.routing = RoutingLog(data.task_names, every=settings.routing_stats_steps if hooks else 0)
        for callback in (self.routing, EpochCallback(data.sampler), LastStepLogs(), self.watch, Progress()):
            self.add_callback(callback)
        if hooks:
            self.add_callback(CastWindow(self))

    # Data and optimizer

    def _get_train_sampler(self, train_dataset=None):
        """The recipe's task sampler."""
        return self.data.sampler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over groups by learning rate (the first is logged: the adapter's) and by decay (of matrices alone)."""
        if self.optimizer is not None:
            return self.optimizer
        settings, base = self.settings, self.settings.learning_rate
        own = {"projector": settings.projector_learning_rate, "routers": settings.router_learning_rate}
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, weight in self.trained.model.named_parameters():
            if weight.requires_grad:
                rate = own.get(part_of(name)) or base
                groups.setdefault((rate, weight.ndim < 2), []).append(weight)
        described = [
            {"params": weights, "lr": rate, "weight_decay": 0.0 if is_vector else self.args.weight_decay}
            for (rate, is_vector), weights in sorted(groups.items(), key=lambda each: (each[0][0] != base, *each[0]))
        ]
        kind, options = self.get_optimizer_cls_and_kwargs(self.args)
        self.optimizer = kind(described, **options)
        return self.optimizer

    # Loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor | None:
        """Supervised tokens of the whole accumulation window, over all processes."""
        if not batch_samples:
            return None
        counted = torch.stack([count_supervised(batch["labels"]) for batch in batch_samples]).sum().to(device)
        return self.accelerator.gather(counted).sum() if self.args.world_size > 1 else counted

    def model_inputs(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor]:
        """(inputs in the model's float dtype, task ids); routing facts are kept only for a model that takes them."""
        dtype = next(self._still.parameters()).dtype
        batch = {k: v.to(dtype) if torch.is_floating_point(v) else v for k, v in inputs.items()}
        task_ids_B = batch["task_ids"]
        if not self.trained.routed:
            return {k: v for k, v in batch.items() if k not in OWN_KEYS}, task_ids_B
        # The model is not shown the labels, so it is told how many each sample has.
        facts = RoutingScope(facts=BatchFacts.of(batch, {}, None))
        return {**batch, "sample_weights": facts.sample_weights(batch["labels"])}, task_ids_B

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Task loss and auxiliary loss of one micro-batch, divided by the window's supervised tokens.

        Returns the loss, with the per-token losses as second value if `return_outputs`.
        """
        self._still.eval()
        batch, task_ids_B = self.model_inputs(inputs)
        found = supervised_loss(model, batch, self.head, BatchFacts.of(batch, {}, None).owners())
        n_local = found.nll.numel()
        share = 1.0 / (num_items_in_batch if num_items_in_batch is not None else max(n_local, 1))
        task_loss = found.nll.sum() * share
        if self.watch.active:
            self.watch.look(task_loss)
        aux = self.hooks.auxiliary_loss(self.trained.model) if self.hooks else None
        self.window.add(nll_N=found.nll, rows_N=found.rows, task_ids_B=task_ids_B, aux=aux)
        loss = task_loss if aux is None else task_loss + aux * (n_local * share)
        loss = loss * self.accelerator.num_processes  # gradients are averaged over processes, N counts all of them
        return (loss, found) if return_outputs else loss

    # Log

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.settings.output_dir)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds trained so far, earlier launches included."""
        return self._seconds_before + time.monotonic() - self._started

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Append the window's record to train_log.jsonl; report_to gets the same numbers, tasks as `task_loss/name`."""
        if "loss" in logs:
            if self.args.world_size > 1:
                self.window.combine(self.accelerator.reduce)
            window = self.window.flush()
            check_finite(window, self.state.global_step)
            record = {"step": self.state.global_step, "epoch": self.state.epoch, "loss": window.pop("loss")}
            record |= {name: logs[name] for name in ("learning_rate", "grad_norm") if name in logs}
            routing = self.routing.publish(self.folder, self.state.global_step, main=self.is_world_process_zero())
            record |= {**window, **({"routing": routing} if routing else {}), "seconds": round(self.seconds, 3)}
            if self.is_world_process_zero():
                append_record(self.folder / LOG_FILE, record)
            logs = {**logs, "loss": record["loss"], **prefixed(routing)}
            logs |= {f"task_loss/{task}": value for task, value in record["task_loss"].items()}
        super().log(logs, start_time)

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        """The run's folder, or the hidden draft beside it while a checkpoint is being written."""
        return str(self._draft) if self._draft else super()._get_output_dir(trial)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Write what is trained, nothing else (no pickled arguments, no copy of the processor)."""
        if self.args.should_save:
            folder = Path(output_dir or self.folder)
            folder.mkdir(parents=True, exist_ok=True)
            self.trained.save(folder, state_dict)

    def _save_checkpoint(self, model, trial) -> None:
        """Trainer's checkpoint and the sampler's state, written as a hidden draft and published in one rename."""
        name, root = f"checkpoint-{self.state.global_step}", self.folder
        if self.args.world_size > 1:
            self.window.combine(self.accelerator.reduce)
            self.routing.combine()
        self._draft = root / f"{store.DRAFT}{name}"
        try:
            super()._save_checkpoint(model, trial)
        finally:
            draft, self._draft = self._draft, None
        self.accelerator.wait_for_everyone()
        if not self.args.should_save:
            self.window.flush()  # its share is in process zero's window now
            self.routing.statistics.clear()
            return
        (draft / name / store.STATE_FILE).write_text(json.dumps(self._state_beside()), encoding="utf-8")
        shutil.copyfile(root / store.RECIPE_FILE, draft / name / store.RECIPE_FILE)
        store.publish(draft / name, root / name)
        draft.rmdir()
        store.rotate(root, self.settings.save_total_limit)

    def _state_beside(self) -> dict[str, Any]:
        """What Trainer does not keep: the sampler, how far it is, the open log window, the seconds so far."""
        per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        drawn = self.state.global_step * per_step * self.args.world_size
        sampler = {**self.data.sampler.state_dict(), "epoch": int(self.state.epoch), "drawn": drawn}
        routing = self.routing.statistics.state_dict()
        return {"sampler": sampler, "window": self.window.state_dict(), "routing": routing, "seconds": self.seconds}

    def restore(self, checkpoint: Path) -> None:
        """Take back what `_state_beside` wrote; Trainer restores the rest in `train(resume_from_checkpoint=...)`."""
        state = store.read_json(checkpoint / store.STATE_FILE)
        if self.is_world_process_zero():
            self.window.load_state_dict(state["window"])
        self.routing.resume(state.get("routing", []), self.args.device, main=self.is_world_process_zero())
        self._seconds_before, self._started = state["seconds"], time.monotonic()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load what is trained, strictly."""
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.trained.load(Path(resume_from_checkpoint))
