"""Language-model loss at the supervised positions only: the head sees the rows whose next token is a label.

Letters: B samples, T positions, D hidden width, N supervised positions of the batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100  # label of a position that is not supervised, as everywhere in transformers


@dataclass(frozen=True)
class SupervisedLoss:
    """Loss of each supervised token.

    nll [N]: negative log likelihood in float32, differentiable. rows [N]: the sample a token belongs to.
    """

    nll: Tensor
    rows: Tensor


def supervised_mask(labels_BT: Tensor) -> Tensor:
    """True at positions whose *next* token is supervised: keep_BT[b, t] = labels_BT[b, t + 1] ≠ -100."""
    keep_BT = torch.zeros_like(labels_BT, dtype=torch.bool)
    keep_BT[:, :-1] = labels_BT[:, 1:] != IGNORED
    return keep_BT


def count_supervised(labels_BT: Tensor) -> Tensor:
    """Number of supervised next tokens, as a scalar tensor: Σ keep_BT of `supervised_mask`."""
    return (labels_BT[:, 1:] != IGNORED).sum()


@contextmanager
def head_at(head: nn.Module, keep_BT: Tensor) -> Iterator[None]:
    """Inside, a model's output embedding `head` computes only the positions in `keep_BT`: its logits become [N, V].

    The head of a small model with a large vocabulary costs as much as all its layers, and its logits more memory
    than everything else; answers are a fraction of the tokens. Raises ValueError if the hidden states that reach the
    head do not have the labels' shape (a model that lengthens its sequence inside forward).
    """

    def keep_rows(_head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BTD = args[0]
        if hidden_BTD.shape[:2] != keep_BT.shape:
            raise ValueError(
                f"labels have shape {tuple(keep_BT.shape)} but the output embedding receives hidden states "
                f"{tuple(hidden_BTD.shape)}: the processor must expand image placeholders, not the model"
            )
        return (hidden_BTD[keep_BT], *args[1:])

    handle = head.register_forward_pre_hook(keep_rows)
    try:
        yield
    finally:
        handle.remove()


def supervised_loss(
    model: Any, batch: Mapping[str, Any], head: nn.Module | None = None, owners_BT: Tensor | None = None
) -> SupervisedLoss:
    """Run `model` on `batch` and return every supervised token's cross-entropy.

    `head` is the model's output embedding, asked of the model if not given (a wrapper like
    DistributedDataParallel cannot tell). `batch` holds `labels` [B, T] (kept from the model, so it computes
    no loss of its own) and the model's inputs. `owners` says which sample a position belongs to where rows are packed;
    otherwise a row is a sample. Logits are promoted to float32 before the softmax.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    labels_BT = batch["labels"]
    keep_BT = supervised_mask(labels_BT)
    with head_at(head if head is not None else model.get_output_embeddings(), keep_BT):
        logits_NV = model(**inputs, use_cache=False).logits
    targets_N = labels_BT[:, 1:][keep_BT[:, :-1]]
    nll_N = F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return SupervisedLoss(nll=nll_N, rows=keep_BT.nonzero()[:, 0] if owners_BT is None else owners_BT[keep_BT])
