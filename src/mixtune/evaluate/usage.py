"""Which factors or experts each sample used, kept small enough to stand beside its answer.

Legend: S two sides (0 for A, 1 for B), L layers, E factors or experts, B samples, T tokens, K chosen.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

USAGE = "usage.safetensors"


def count_choices(indices: Tensor, size: int, mask_BT: Tensor) -> Tensor:
    """How often each of `size` factors was chosen by each sample: ``[B, size]`` int64.

    `indices` is ``[B, K]`` (routed by instance: one count a slot) or ``[B, T, K]`` (routed by token: counted
    over the tokens where `mask_BT` is 1).
    """
    weights = torch.ones_like(indices) if indices.dim() == 2 else mask_BT[:, :, None].expand_as(indices).long()
    counts = torch.zeros(indices.shape[0], size, dtype=torch.long, device=indices.device)
    return counts.scatter_add_(1, indices.flatten(1), weights.to(indices.device).flatten(1).long())


def batch_usage(selections: Mapping[str, Any], mask_BT: Tensor) -> np.ndarray:
    """Counts of every layer, in the order of `selections`, as uint16 ``[B, 2, L, E]`` (A's and B's)."""
    layers = []
    for routed in selections.values():
        size = routed.probs.shape[-1]
        sides = [count_choices(indices, size, mask_BT) for indices in (routed.indices_a, routed.indices_b)]
        layers.append(torch.stack(sides, dim=1))
    return torch.stack(layers, dim=2).cpu().numpy().astype(np.uint16)


def pack(counts_SLE: np.ndarray) -> str:
    """Counts of one sample as text: zlib and base64 over little-endian uint16."""
    return base64.b64encode(zlib.compress(counts_SLE.astype("<u2").tobytes())).decode("ascii")


def unpack(text: str, layers: int) -> np.ndarray:
    """The counts of `pack`, ``[2, layers, E]``. Raises ValueError if it does not hold that many layers."""
    counts = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2")
    if counts.size % (2 * layers):
        raise ValueError(f"selection: {counts.size} counts do not divide into 2 sides of {layers} layers")
    return counts.reshape(2, layers, -1)


def save_usage(rows: Sequence[Mapping[str, Any]], layers: Sequence[str], path: Path) -> bool:
    """Sum the rows' ``selection`` over the samples of each task into a safetensors file; False without any.

    Tensors ``usage_a``, ``usage_b``: int32 ``[tasks, L, E]``. Metadata ``axes``: JSON with the names of
    ``tasks`` and ``layers`` in that order, and how many ``samples`` each task summed.
    """
    chosen = [row for row in rows if row.get("selection")]
    if not chosen:
        return False
    tasks = sorted({row["task"] for row in chosen})
    sums: dict[str, np.ndarray] = {}
    for row in chosen:
        counts = unpack(row["selection"], len(layers)).astype(np.int32)
        sums[row["task"]] = sums[row["task"]] + counts if row["task"] in sums else counts
    stacked = torch.from_numpy(np.stack([sums[task] for task in tasks]))
    samples = [sum(row["task"] == task for row in chosen) for task in tasks]
    # One entry: safetensors writes several in no fixed order, and the same answers should give the same file.
    axes = {"tasks": tasks, "layers": list(layers), "samples": samples}
    partial = path.with_name(f".{path.name}.partial")
    tensors = {"usage_a": stacked[:, 0].contiguous(), "usage_b": stacked[:, 1].contiguous()}
    save_file(tensors, partial, metadata={"axes": json.dumps(axes)})
    partial.replace(path)
    return True
