"""A mixture in transformers' own Trainer, or in a trainer made from it, such as TRL's SFTTrainer.

A model with a mixture runs in any trainer as it is: prompts are known from the labels. What a trainer has to add is the
auxiliary loss; `RoutedTrainer` adds that, task ids, the watch over the routers (rule 5) and the routing statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from mixtune.adapters import auxiliary_loss, centers, router_parameters
from mixtune.adapters.hooks import ModelHooks
from mixtune.adapters.layer import MixtureLinear
from mixtune.routing.prompts import BatchFacts
from mixtune.routing.scope import RoutingScope
from mixtune.training.callbacks import CastWindow, RouterWatch
from mixtune.training.logits import IGNORED
from mixtune.training.routing_log import RoutingLog
from mixtune.training.setup import learning_routers

TASK, TASK_IDS = "task", "task_ids"  # columns of a dataset: a task's name, or its number


class RoutedTrainer(Trainer):
    """transformers' Trainer for a model with a mixture; to extend another trainer, put it first:

        class Mine(RoutedTrainer, SFTTrainer): ...      # or mixtune.training.sft.RoutedSFTTrainer

    Loss of an optimizer step: the trainer's own plus Σ_m (n_m / N) · aux_m over its micro-batches, with n_m the
    supervised labels of micro-batch m and N those of all of them, so that accumulation changes neither term. A trainer
    without N (its model takes no loss arguments) weighs micro-batches alike, here as in its own loss.

    task_names: what the datasets' column `task` names; if not given, looked up in train_dataset (see `tasks_of`). A
    column `task_ids` numbers tasks instead. Either is kept whatever remove_unused_columns says.

    Logs get `routing/aux_loss`, the mean of an optimizer step, which is part of `loss`, and what `RoutingLog` says. A
    trained router that the task loss does not reach raises RouterError (see `RouterWatch`); not watched where single
    gradients cannot be asked for: FSDP, DeepSpeed, reentrant checkpointing, torch_compile.
    A model without a mixture is trained as Trainer would.
    """

    mixed = False
    model: Any
    _signature_columns: Any

    def __init__(self, *args: Any, task_names: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aux_sum: Tensor | None = None
        self._aux_from = 0
        self.mixed = any(isinstance(module, MixtureLinear) for module in self.model.modules())
        if not self.mixed:
            return
        names = tuple(task_names) or tasks_of(self.train_dataset)
        self.data_collator = TaskCollator(self.data_collator, names)
        self.watch = RouterWatch({} if self._gradients_are_hidden() else learning_routers(self.model))
        self.add_callback(self.watch)
        self.window = CastWindow(self)
        self.add_callback(self.window)
        self._warn_of_centers()
        self.routing = RoutingLog(names)
        self.routing.put_first(self)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own."""
        with self.window.closed_after() if self.mixed else nullcontext():
            return super().train(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ):
        """The trainer's loss of one micro-batch; in training the auxiliary loss is added."""
        if not self.mixed:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        share = self._share(inputs, num_items_in_batch)
        found = super().compute_loss(model, self._with_facts(inputs), return_outputs, num_items_in_batch)
        loss: Any = found[0] if return_outputs else found
        aux = auxiliary_loss(self.model)
        if self.model.training and torch.is_grad_enabled():
            if self.watch.active:
                self.watch.look(loss)
            if aux is not None:
                loss = loss + self._noted(aux * share, num_items_in_batch is not None)
        return (loss, found[1]) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The trainer's log with `routing/aux_loss`, the mean over the optimizer steps since the last one."""
        if self._aux_sum is not None and "loss" in logs:
            steps = max(self.state.global_step - self._aux_from, 1)
            logs["routing/aux_loss"] = self.accelerator.reduce(self._aux_sum, "mean").item() / steps
            self._aux_sum = None
        super().log(logs, start_time)

    def _warn_of_centers(self) -> None:
        found = centers(self.model)
        if found and not any(bool(center.any()) for center in found.values()):
            warnings.warn(
                "router_center: all centers are zero, so routers read whole prompts; before training run prompts of "
                "every task through the model: `with mixtune.center_routers(model): model(**batch)`",
                stacklevel=3,
            )

    def _set_signature_columns_if_needed(self) -> None:
        """The columns that reach the collator: the trainer's, and those that say the task."""
        super()._set_signature_columns_if_needed()
        if self.mixed and TASK not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, TASK, TASK_IDS]

    def _share(self, inputs: Mapping[str, Any], num_items_in_batch: Tensor | int | None) -> Tensor | float:
        """n_m / N, times what the trainer multiplies its own loss with to average over processes."""
        if num_items_in_batch is None:
            return 1.0
        labels = inputs.get("shift_labels")
        if labels is None:
            labels = inputs["labels"][..., 1:] if self._loss_shifts_labels else inputs["labels"]
        averaged = self.args.average_tokens_across_devices
        processes = self.accelerator.num_processes // self.get_tp_size() if averaged else 1
        return (labels != IGNORED).sum() * processes / num_items_in_batch

    def _with_facts(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs; where the trainer hides the labels from the model, with what the model would read from them."""
        labels_BT = inputs.get("labels")
        hidden = self.label_smoother is not None or self.compute_loss_func is not None
        if labels_BT is None or not hidden or "prompt_mask" in inputs:
            return dict(inputs)
        scope = RoutingScope(facts=BatchFacts.of(inputs, {}, None))
        facts: dict[str, Any] = {"sample_weights": scope.sample_weights(labels_BT)}
        if ModelHooks.find(self.model).routes_instances():
            facts["prompt_mask"] = scope.prompt_mask(labels_BT)
        return {**inputs, **facts}

    def _noted(self, added: Tensor, normalised: bool) -> Tensor:
        """`added`, counted for the log. Raises ValueError if it cannot train the routers that it should train."""
        if not added.requires_grad and any(weight.requires_grad for weight in router_parameters(self.model).values()):
            raise ValueError(
                "router_aux_loss_coef: the trainer ran the model once more, without gradient, after the forward of its "
                "loss (TRL does so for label_smoothing_factor and compute_loss_func), so the auxiliary loss is lost; "
                "leave those out, or set router_aux_loss_coef to 0"
            )
        if self._aux_sum is None:
            self._aux_sum, self._aux_from = torch.zeros_like(added.detach()), self.state.global_step
        self._aux_sum += added.detach() / (1 if normalised else self.current_gradient_accumulation_steps)
        return added

    def _gradients_are_hidden(self) -> bool:
        """Whether torch.autograd.grad of the loss by single parameters is impossible."""
        options: Any = self.args.gradient_checkpointing_kwargs or {}
        reentrant = self.args.gradient_checkpointing and options.get("use_reentrant", False)
        return bool(reentrant or self.args.torch_compile or self.is_fsdp_enabled or self.is_deepspeed_enabled)


class TaskCollator:
    """`collator`, and the samples' tasks: batches get `task_ids` [B] from the columns `task` or `task_ids`.

    A sample without a task, or with one that is not in `names`, gets -1 and counts as "other".
    """

    def __init__(self, collator: Callable[[list[Any]], Any], names: Sequence[str]) -> None:
        self.collator = collator
        self.numbers = {name: number for number, name in enumerate(names)}

    def __call__(self, samples: list[Any]) -> Any:
        """The batch of `collator`, which is given the samples without these columns."""
        if not isinstance(samples[0], Mapping) or not samples[0].keys() & {TASK, TASK_IDS}:
            return self.collator(samples)
        ids = [self._number(sample) for sample in samples]
        batch = self.collator([{k: v for k, v in each.items() if k not in (TASK, TASK_IDS)} for each in samples])
        batch[TASK_IDS] = torch.tensor(ids)
        return batch

    def _number(self, sample: Mapping[str, Any]) -> int:
        number = sample.get(TASK_IDS)
        return int(number) if number is not None else self.numbers.get(str(sample.get(TASK)), -1)


def tasks_of(dataset: Any) -> tuple[str, ...]:
    """Names of a dataset's tasks: those in its column `task`, sorted, or the numbers up to the highest in `task_ids`.

    () if it has neither, or is no `datasets.Dataset` or list and so can be asked only sample by sample.
    """
    found = {name: [value for value in _column(dataset, name) if value is not None] for name in (TASK, TASK_IDS)}
    if found[TASK_IDS]:
        return tuple(str(number) for number in range(int(max(found[TASK_IDS])) + 1))
    return tuple(sorted({str(name) for name in found[TASK]}))


def _column(dataset: Any, name: str) -> list[Any]:
    if isinstance(dataset, list):
        return [each.get(name) for each in dataset if isinstance(each, Mapping)]
    has_it = hasattr(dataset, "unique") and name in dataset.column_names
    return dataset.unique(name) if has_it else []
