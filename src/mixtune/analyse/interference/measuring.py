"""Directions from one half of the samples, and the other half measured against them.

Kept in memory are sums of gradients for each task and block of directions, whatever the number of samples; of a
measured sample only inner products are kept, and those on disk.

Shape suffixes: P tasks, K blocks of directions, U units of a batch, N units of a part, X = rows · width of one bank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixtune.analyse.interference.banks import SIDES, AdaptedLinear, bank_key, flat
from mixtune.analyse.interference.gradients import sample_gradients, sample_losses
from mixtune.analyse.interference.planning import Unit, batches
from mixtune.analyse.interference.settings import InterferenceSettings
from mixtune.analyse.interference.store import stacked
from mixtune.data import Collator

UNIT, MEAN = "unit", "mean"  # mean of the normalised gradients, and of the gradients


class Measurer:
    """Works out blocks of directions and measured parts of one model.

    linears: those whose banks are looked at. tasks: their number, P. done: called with the number of samples finished.
    """

    def __init__(
        self,
        model: Any,
        collator: Collator,
        linears: Sequence[AdaptedLinear],
        tasks: int,
        settings: InterferenceSettings,
        done: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self.model, self.collator, self.linears = model, collator, linears
        self.tasks, self.settings, self.done = tasks, settings, done
        self._along: dict[str, Tensor] = {}

    def direction_block(self, units: Sequence[Unit]) -> dict[str, Tensor]:
        """For each bank "unit <bank>": E[∇L/‖∇L‖] and "mean <bank>": E[∇L] over each task's units, [P, X]."""
        sums = {
            f"{kind} {bank_key(side, each)}": torch.zeros(self.tasks, each.bank(side).numel(), device=self.model.device)
            for each in self.linears
            for side in SIDES
            for kind in (UNIT, MEAN)
        }
        for batch in batches(units, self.settings):
            tasks_U = torch.tensor([unit.task for unit in batch], device=self.model.device)
            for linear, side, gradients_UX in self._gradients(batch)[1]:
                key = bank_key(side, linear)
                length_U1 = gradients_UX.norm(dim=1, keepdim=True)
                unit_UX = torch.where(length_U1 > 0, gradients_UX / length_U1, 0)
                sums[f"{UNIT} {key}"].index_add_(0, tasks_U, unit_UX.float())
                sums[f"{MEAN} {key}"].index_add_(0, tasks_U, gradients_UX.float())
            self.done(sum(len(unit.samples) for unit in batch))
        counts = torch.bincount(torch.tensor([unit.task for unit in units]), minlength=self.tasks)
        return {key: total / counts.to(total)[:, None] for key, total in sums.items()}

    def measured_part(self, units: Sequence[Unit], blocks: list[Path]) -> dict[str, Tensor]:
        """`tasks` and `losses` [N]; for each bank, by task j and block k of directions, [N, P, K]: "unit <bank>"
        u_jk·∇L(x), "mean <bank>" ḡ_jk·∇L(x), and with `lookahead` λ "ahead <bank>" (L(x; θ) − L(x; θ − λ u_jk)) / λ.
        """
        found: dict[str, list[Tensor]] = {}
        directions = self._directions(blocks)
        for batch in batches(units, self.settings):
            losses_U, gradients = self._gradients(batch)
            found.setdefault("losses", []).append(losses_U)
            for linear, side, gradients_UX in gradients:
                for kind in (UNIT, MEAN):
                    key = f"{kind} {bank_key(side, linear)}"
                    along_PKX = directions[key]
                    dots_UPK = (gradients_UX.float() @ along_PKX.flatten(0, 1).t()).unflatten(1, along_PKX.shape[:2])
                    found.setdefault(key, []).append(dots_UPK)
            if self.settings.lookahead:
                for key, falls_UPK in self._ahead(batch, losses_U, directions, self.settings.lookahead):
                    found.setdefault(key, []).append(falls_UPK)
            self.done(sum(len(unit.samples) for unit in batch))
        return {"tasks": torch.tensor([u.task for u in units])} | {key: torch.cat(each) for key, each in found.items()}

    def _directions(self, blocks: list[Path]) -> dict[str, Tensor]:
        """Directions of all blocks by bank, [P, K, X]; read once, since a measurer has one set of them."""
        keys = [f"{kind} {bank_key(side, each)}" for each in self.linears for side in SIDES for kind in (UNIT, MEAN)]
        if not self._along:
            self._along = {key: stacked(blocks, key).transpose(0, 1).to(self.model.device) for key in keys}
        return self._along

    def _gradients(self, batch: Sequence[Unit]) -> tuple[Tensor, Iterator[tuple[AdaptedLinear, str, Tensor]]]:
        """Losses [U] of a batch's units, and one bank after the other their gradients [U, X]."""
        losses_B, by_linear = sample_gradients(self.model, self._collated(batch), self.linears)

        def each_bank() -> Iterator[tuple[AdaptedLinear, str, Tensor]]:
            for linear, gradients in by_linear:
                for side in SIDES:
                    yield linear, side, self._averaged(flat(gradients[side]))

        return self._averaged(losses_B), each_bank()

    def _ahead(
        self, batch: Sequence[Unit], losses_U: Tensor, directions: dict[str, Tensor], step: float
    ) -> Iterator[tuple[str, Tensor]]:
        """The exact fall of each unit's loss, by a step of length `step` along each direction, over that length."""
        inputs = self._collated(batch)
        for linear in self.linears:
            for side in SIDES:
                along_PKX = directions[f"{UNIT} {bank_key(side, linear)}"]
                falls = []
                for direction_X in along_PKX.flatten(0, 1):
                    with torch.no_grad(), moved(linear.bank(side), direction_X, -step):
                        falls.append((losses_U - self._averaged(sample_losses(self.model, inputs))) / step)
                yield f"ahead {bank_key(side, linear)}", torch.stack(falls, 1).unflatten(1, along_PKX.shape[:2])

    def _collated(self, batch: Sequence[Unit]) -> dict[str, Tensor]:
        return self.collator([sample for unit in batch for sample in unit.samples])

    def _averaged(self, values_BX: Tensor) -> Tensor:
        """Mean over each unit's samples, which stand side by side."""
        return values_BX.unflatten(0, (-1, self.settings.unit)).mean(1)


@contextmanager
def moved(bank: torch.nn.Parameter, direction_X: Tensor, step: float) -> Iterator[None]:
    """Inside, `bank` is moved by `step` times a direction; afterwards it has its old bits."""
    before = bank.detach().clone()
    bank.data.add_(direction_X.view_as(bank).to(bank), alpha=step)
    try:
        yield
    finally:
        bank.data.copy_(before)
