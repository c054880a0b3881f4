"""Numbers about selections: how even, how dead, how telling, how alike between tasks.

Legend: S sides, N samples, P tasks, L routers, E factors or experts, D numbers that describe one sample's selections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from mixtune.analyse.routing.recording import Selections
from mixtune.analyse.selections import Usage, task_information, task_overlap
from mixtune.evaluate.statistics import wilson_interval

SIDES = ("a", "b")
MEASURES = ("entropy", "evenness", "dead_share", "task_information")
CHUNK = 2**25  # numbers held at once while samples are compared


def usage_of(selections: Selections, tasks_N: np.ndarray, names: Sequence[str]) -> Usage:
    """Choices summed over the samples of each task."""
    summed = [selections.choices[:, tasks_N == task].sum(1) for task in range(len(names))]
    return Usage(counts_SNLE=np.stack(summed, 1), tasks=tuple(names), layers=selections.layers)


def layer_measures(selections: Selections, usage: Usage) -> list[dict[str, Any]]:
    """For each router entropy, and by side evenness, dead_share and task_information.

    evenness: entropy of the choices of all tasks, each counting the same, over log of the router's size. dead_share:
    share of its factors that nothing chose. task_information: see `selections.task_information`.
    """
    information_SL, pooled_SLE = task_information(usage), usage.shares.mean(1)
    terms = pooled_SLE * np.log(np.where(pooled_SLE > 0, pooled_SLE, 1.0))
    found = []
    for layer, size in enumerate(selections.sizes):
        even_S = -terms[:, layer].sum(-1) / (np.log(size) or 1.0)
        dead_S = (usage.counts_SNLE[:, :, layer, :size].sum(1) == 0).mean(-1)
        sides = {"evenness": even_S, "dead_share": dead_S, "task_information": information_SL[:, layer]}
        by_side = {
            name: {side: rounded(v) for side, v in zip(SIDES, values, strict=False)} for name, values in sides.items()
        }
        found.append({"entropy": rounded(selections.entropy[:, layer].mean()), **by_side})
    return found


def means(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each measure, averaged over sides and routers."""
    flat = {name: [v for each in layers for v in _sides(each[name])] for name in MEASURES}
    return {name: rounded(np.mean(values)) for name, values in flat.items()}


def _sides(value: Any) -> list[float]:
    return list(value.values()) if isinstance(value, dict) else [value]


def overlaps(usage: Usage) -> dict[str, Any]:
    """How alike the tasks' choices are, each [P, P], mean over sides and routers: shared Σ_e min(p_e, q_e); jaccard
    Σ min / Σ max; cosine p·q / (|p| |q|).
    """
    shares = usage.shares
    norms = np.linalg.norm(shares, axis=-1, keepdims=True)
    unit = np.divide(shares, norms, out=np.zeros_like(shares), where=norms > 0)
    cosine = np.einsum("sile,sjle->ij", unit, unit) / (shares.shape[0] * shares.shape[2])
    jaccard = np.empty_like(cosine)
    for i in range(len(cosine)):
        low = np.minimum(shares[:, i : i + 1], shares).sum(-1)
        jaccard[i] = (low / np.maximum(2.0 - low, 1e-12)).mean(axis=(0, 2))
    return {"shared": nested(task_overlap(usage)), "jaccard": nested(jaccard), "cosine": nested(cosine)}


def token_kinds(selections: Selections) -> dict[str, Any] | None:
    """Shares of the choices of image and of text positions, [L, E] each, and their distance [L], half of Σ |p − q|;
    None unless tokens are routed, or if all positions are of one kind.
    """
    if selections.image is None:
        return None
    image_LE, text_LE = selections.image, selections.choices[0].sum(0) - selections.image
    if not (image_LE.sum() > 0 and text_LE.sum() > 0):
        return None
    shares = [each / each.sum(-1, keepdims=True) for each in (image_LE, text_LE)]
    distance_L = np.abs(shares[0] - shares[1]).sum(-1) / 2
    return {"image": nested(shares[0]), "text": nested(shares[1]), "distance": nested(distance_L)}


def described(selections: Selections, layers: Sequence[int]) -> np.ndarray:
    """One row a sample, [N, D], of the routers at positions `layers`: for instances the multi-hot vector of what each
    router chose; for tokens the share of the positions that went to each expert.
    """
    rows_NSLE = selections.choices[:, :, list(layers)].transpose(1, 0, 2, 3).astype(np.float32)
    if selections.image is None:
        return (rows_NSLE > 0).reshape(len(rows_NSLE), -1).astype(np.float32)
    total = rows_NSLE.sum(-1, keepdims=True)
    return np.divide(rows_NSLE, total, out=np.zeros_like(rows_NSLE), where=total > 0).reshape(len(rows_NSLE), -1)


def jaccard_distances(rows_ND: np.ndarray) -> np.ndarray:
    """1 − Σ min(x, y) / Σ max(x, y) of each pair of rows, [N, N]: Jaccard's distance for rows of 0 and 1, and
    Ruzicka's, which extends it, for shares.
    """
    totals_N = rows_ND.sum(1)
    if np.isin(rows_ND, (0, 1)).all():
        low_NN = rows_ND @ rows_ND.T
    else:
        step = max(1, CHUNK // rows_ND.size)
        parts = [rows_ND[start : start + step, None] for start in range(0, len(rows_ND), step)]
        low_NN = np.concatenate([np.minimum(part, rows_ND[None]).sum(-1) for part in parts])
    high_NN = totals_N[:, None] + totals_N - low_NN
    found = np.clip(1.0 - np.divide(low_NN, high_NN, out=np.ones_like(low_NN), where=high_NN > 0), 0.0, 1.0)
    np.fill_diagonal(found, 0.0)
    return found


def neighbours_agree(distances_NN: np.ndarray, tasks_N: np.ndarray, neighbours: int) -> np.ndarray:
    """Whether the task that most of a sample's k nearest others have is its own, [N] bool (leave one out).

    Of tasks with as many votes the one with the nearest neighbour wins.
    """
    apart = distances_NN.copy()
    np.fill_diagonal(apart, np.inf)
    nearest_NK = np.argsort(apart, axis=1, kind="stable")[:, : min(neighbours, len(apart) - 1)]
    votes_NK = tasks_N[nearest_NK]
    counts_NK = (votes_NK[:, :, None] == votes_NK[:, None, :]).sum(-1)
    return np.take_along_axis(votes_NK, counts_NK.argmax(1)[:, None], 1)[:, 0] == tasks_N


def purity(
    trained_N: np.ndarray, redraws: Sequence[np.ndarray], tasks_N: np.ndarray, confidence: float
) -> dict[str, Any]:
    """Nearest-neighbour accuracy of the trained router with its Wilson interval, and of the untrained ones: their mean
    between the lowest and the highest end of their intervals, and each one's. chance: the share of the largest task.

    difference: trained less the mean of the redraws. A redraw is one random router of many, so its interval is
    d ± t·√(s²(1 + 1/R) + v): s the redraws' standard deviation, v the mean variance of the paired difference over
    samples, t of R − 1 degrees of freedom. Samples alone would call two random routers different. None for one redraw.
    """
    whole = [wilson_interval(each.tolist(), confidence) for each in (trained_N, *redraws)]
    values, count = [each.value for each in whole[1:]], len(redraws)
    mean = float(np.mean(values))
    apart: dict[str, float | None] = {"value": rounded(whole[0].value - mean), "low": None, "high": None}
    if count > 1:
        samples = np.mean([_paired_variance(trained_N, each, tasks_N) for each in redraws])
        spread = np.sqrt(np.var(values, ddof=1) * (1 + 1 / count) + samples)
        half = float(student.ppf((1 + confidence) / 2, count - 1) * spread)
        apart |= {"low": rounded(whole[0].value - mean - half), "high": rounded(whole[0].value - mean + half)}
    ends = {"low": min(each.low for each in whole[1:]), "high": max(each.high for each in whole[1:])}
    return {
        "samples": len(tasks_N),
        "chance": rounded(np.unique(tasks_N, return_counts=True)[1].max() / len(tasks_N)),
        "trained": _rounded(whole[0].as_dict()),
        "untrained": {**_rounded({"accuracy": mean, **ends}), "redraws": [rounded(value) for value in values]},
        "difference": apart,
    }


def _paired_variance(first_N: np.ndarray, second_N: np.ndarray, tasks_N: np.ndarray) -> float:
    """Variance of the mean paired difference, samples drawn within their tasks."""
    apart_N = first_N.astype(float) - second_N.astype(float)
    return (
        float(sum(apart_N[tasks_N == task].var() * (tasks_N == task).sum() for task in np.unique(tasks_N)))
        / len(tasks_N) ** 2
    )


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: rounded(value) for name, value in numbers.items()}


def rounded(value: Any) -> float:
    """Four decimals, without a minus sign before zero."""
    return round(float(value), 4) + 0.0


def nested(values: np.ndarray) -> Any:
    """An array as nested lists of four decimals."""
    return np.round(values.astype(float), 4).tolist()
