"""From inner products to scores with bootstrap intervals.

Every statistic is worked out for R resamples at once, along with the plain one, which stands first: R1 = 1 + R.

Resampled are each task's measured units and, apart from them, its blocks of directions; of n things n − 1 are drawn,
with replacement, which makes the variance of a mean that of the things themselves over n (Rao and Wu 1988, rescaled
bootstrap), so that few blocks do not make intervals too narrow.

Shape suffixes: N measured units, P tasks, K blocks of directions, R1 resamples and the plain statistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHUNK = 2**24  # numbers held at once while ratios of single units are resampled


class Resampler:
    """Weights of units and blocks for all resamples, a pure function of tasks, blocks and `seed`.

    units: for each task [R1, n]; blocks: [R1, P, K]; halves: the same for every other block, from the first on and from
    the second on. Along the last dimension all sum to 1. rows: for each task the numbers of its units among all N.
    """

    def __init__(self, tasks_N: Tensor, tasks: int, blocks: int, *, resamples: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.rows = [(tasks_N == task).nonzero()[:, 0] for task in range(tasks)]
        self.units = [weights(len(rows), resamples, random) for rows in self.rows]

        def for_each_task(count: int) -> Tensor:
            return torch.stack([weights(count, resamples, random) for _ in range(tasks)], 1)

        self.blocks = for_each_task(blocks)
        self.halves = [for_each_task(len(range(start, blocks, 2))) for start in (0, 1)]


def weights(count: int, resamples: int, random: torch.Generator) -> Tensor:
    """[1 + resamples, count]: 1/count first, then how often each was among count − 1 draws, over count − 1."""
    draws = max(1, count - 1)
    drawn = torch.randint(count, (resamples, draws), generator=random)
    counts = torch.zeros(resamples, count).scatter_add_(1, drawn, torch.ones(resamples, draws))
    return torch.cat([torch.full((1, count), 1 / count), counts / draws])


@dataclass
class Tally:
    """Sums over banks; row i is the task measured, column j the task whose direction it is.

    falls [R1, P, P]: mean fall of task i's loss along task j's direction, for a step of length 1. ratios [R1, P, P]:
    mean over units of (fall along j) / (fall along i). products [R1, P, P]: inner products of mean gradients, i from
    the measured half, j from the other. halves [2, R1, P]: falls along the own direction, from one half of blocks and
    units, and from the other. banks: how many were added.
    """

    falls: Tensor
    ratios: Tensor
    products: Tensor | None
    halves: Tensor
    banks: int = 1

    def add(self, other: Tally) -> None:
        """Add another tally's sums."""
        self.falls += other.falls
        self.ratios += other.ratios
        self.halves += other.halves
        if self.products is not None and other.products is not None:
            self.products += other.products
        self.banks += other.banks

    def copy(self) -> Tally:
        """A tally of its own with the same sums."""
        products = None if self.products is None else self.products.clone()
        return Tally(self.falls.clone(), self.ratios.clone(), products, self.halves.clone(), self.banks)


def tally(falls_NPK: Tensor, products_NPK: Tensor | None, resampler: Resampler) -> Tally:
    """The statistics of one bank from its units' inner products."""
    falls, ratios, products, halves = [], [], [], []
    for task, (rows, weights_RN) in enumerate(zip(resampler.rows, resampler.units, strict=True)):
        own_NPK = falls_NPK[rows].float()
        falls.append(_means(own_NPK, weights_RN, resampler.blocks))
        ratios.append(_ratios(own_NPK, task, weights_RN, resampler.blocks))
        halves.append(_halves(own_NPK[:, task], weights_RN, [half[:, task] for half in resampler.halves]))
        if products_NPK is not None:
            products.append(_means(products_NPK[rows].float(), weights_RN, resampler.blocks))
    stacked = torch.stack(products, 1) if products else None
    return Tally(torch.stack(falls, 1), torch.stack(ratios, 1), stacked, torch.stack(halves, 2))


def _means(values_NPK: Tensor, weights_RN: Tensor, blocks_RPK: Tensor) -> Tensor:
    """Weighted mean over units and blocks, [R1, P]."""
    return ((weights_RN @ values_NPK.flatten(1)).view_as(blocks_RPK) * blocks_RPK).sum(-1)


def _ratios(values_NPK: Tensor, task: int, weights_RN: Tensor, blocks_RPK: Tensor) -> Tensor:
    """Weighted mean over units of each unit's ratio, [R1, P]; a few resamples at a time."""
    count, tasks = values_NPK.shape[:2]
    found = []
    for start in range(0, len(weights_RN), max(1, CHUNK // (count * tasks))):
        part = slice(start, start + max(1, CHUNK // (count * tasks)))
        means_PNR = values_NPK.transpose(0, 1) @ blocks_RPK[part].permute(1, 2, 0)
        ratios_PNR = means_PNR / means_PNR[task]
        drawn_NR = weights_RN[part].t()
        found.append(torch.where(drawn_NR > 0, ratios_PNR * drawn_NR, 0).sum(1).t())
    return torch.cat(found)


def _halves(own_NK: Tensor, weights_RN: Tensor, halves_RK: Sequence[Tensor]) -> Tensor:
    """Mean fall along the own direction from odd units and blocks, and from even ones, [2, R1]."""
    found = []
    for start in (0, 1):
        units_RN = weights_RN[:, start::2]
        total_R = ((units_RN @ own_NK[start::2, start::2]) * halves_RK[start]).sum(1)
        found.append(total_R / units_RN.sum(1))
    return torch.stack(found)


class Summary:
    """The numbers of a tally with their intervals, as the results have them (FORMAT in docs/analyse.md)."""

    def __init__(self, found: Tally, tasks: Sequence[str], confidence: float) -> None:
        self.found, self.tasks = found, tasks
        edge = (1 - confidence) / 2
        self.edges = (edge, 1 - edge)

    def score(self) -> dict[str, Any]:
        """score, per_sample, gain and undecided."""
        gain_RP = self.found.falls.diagonal(dim1=1, dim2=2)
        gain = self.estimate(gain_RP)
        unsure = [None in (low, high) or low <= 0 <= high for low, high in zip(gain["low"], gain["high"], strict=True)]
        return {
            "score": self.estimate(self.found.falls / gain_RP[..., None]),
            "per_sample": self.estimate(self.found.ratios / self.found.banks),
            "gain": gain,
            "undecided": [task for task, is_unsure in zip(self.tasks, unsure, strict=True) if is_unsure],
        }

    def check(self) -> dict[str, Any]:
        """I_ii with numerator and denominator from different blocks and units."""
        return self.estimate(self.found.halves[0] / self.found.halves[1])

    def cosines(self) -> dict[str, Any]:
        """Cosine and gramian. The Gramian is symmetrised; a cosine is undefined where a diagonal is not positive."""
        assert self.found.products is not None
        gramian_RPP = (self.found.products + self.found.products.transpose(1, 2)) / 2
        square_RP = gramian_RPP.diagonal(dim1=1, dim2=2)
        length_RP = torch.where(square_RP > 0, square_RP, torch.nan).sqrt()
        cosine = self.estimate(gramian_RPP / (length_RP[:, :, None] * length_RP[:, None, :]))
        return {"cosine": cosine, "gramian": numbers(gramian_RPP[0])}

    def estimate(self, values_R: Tensor) -> dict[str, Any]:
        """Value, low and high of a statistic [R1, ...]; null where it is undefined, or where one resample in ten is."""
        drawn_RX = values_R[1:].reshape(len(values_R) - 1, -1)
        low_X, high_X = percentiles(drawn_RX, self.edges)
        shape = values_R.shape[1:]
        return {
            "value": numbers(values_R[0]), "low": numbers(low_X.view(shape)), "high": numbers(high_X.view(shape))
        }  # fmt: skip


def percentiles(drawn_RX: Tensor, edges: Sequence[float]) -> list[Tensor]:
    """For each edge the percentile of every column, [X], over its finite values; NaN if one in ten is not finite."""
    ordered_XR = np.sort(torch.where(drawn_RX.isfinite(), drawn_RX, torch.inf).t().contiguous().numpy(), axis=1)
    finite_X = np.isfinite(ordered_XR).sum(1)
    enough_X = finite_X >= 0.9 * ordered_XR.shape[1]
    found = []
    for edge in edges:
        place_X = edge * np.maximum(finite_X - 1, 0)
        below_X = np.floor(place_X).astype(int)
        above_X = np.minimum(below_X + 1, np.maximum(finite_X - 1, 0))
        ends = [np.take_along_axis(ordered_XR, place[:, None], 1)[:, 0] for place in (below_X, above_X)]
        low_X, high_X = (np.where(enough_X, end, np.nan) for end in ends)
        found.append(torch.from_numpy(low_X + (high_X - low_X) * (place_X - below_X)))
    return found


def numbers(values: Tensor) -> Any:
    """A tensor as nested lists of four significant digits; null for what is not finite."""
    return _rounded(values.tolist())


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if math.isfinite(value) else None
