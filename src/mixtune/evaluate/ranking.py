"""Two ways to answer from one prompt pass: greedy decoding, and ranking the options by likelihood.

Legend: B samples, N rows (a sample with one of its options), L tokens of a continuation, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtune.evaluate.forward import Model, PromptPass, continue_prompts, select_rows

MAX_TOKENS_PER_PASS = 384  # option tokens that share a forward; bounds the float32 logits (75 MB at a 49k vocabulary)
MAX_CACHED_TOKENS = (
    16_384  # prompt tokens whose copied cache is held beside the original; 8.6 GB in LLaVA-7B in bfloat16
)


def rank_options(model: Model, prompt: PromptPass, options: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
    """Length-normalised log-likelihood of every option of every sample: ``1/L sum_l log p(o_l | prompt, o_<l)``.

    ``options[b][o]`` are the token ids of one continuation **with the token that ends the turn**. The end
    belongs to it for two reasons: training supervises it, so minus the score is exactly the training loss of
    that answer; and without it "one" could never lose to "one hundred", whose first tokens it shares. All
    options of all samples run against copies of the prompts' cache, so a prompt is computed once however many
    options it has.
    """
    scores = [[0.0] * len(row) for row in options]
    rows = [(b, o, list(ids)) for b, row in enumerate(options) for o, ids in enumerate(row)]
    first_BV = torch.log_softmax(prompt.logits_BV, dim=-1)
    most_rows = max(1, MAX_CACHED_TOKENS // prompt.mask_BT.shape[1])
    for chunk in _chunks(sorted(rows, key=lambda row: len(row[2])), most_rows):
        sums = _log_likelihoods(model, prompt, first_BV, chunk)
        for (b, o, ids), total in zip(chunk, sums, strict=True):
            scores[b][o] = total / len(ids)
    return scores


def _log_likelihoods(
    model: Model, prompt: PromptPass, first_BV: Tensor, chunk: Sequence[tuple[int, int, list[int]]]
) -> list[float]:
    """Summed log-likelihood of each row of ``chunk``: (sample, option, token ids)."""
    device = first_BV.device
    samples_N = torch.tensor([b for b, _, _ in chunk], device=device)
    longest = max(len(ids) for _, _, ids in chunk)
    padded = [ids + [-1] * (longest - len(ids)) for _, _, ids in chunk]
    targets_NL = torch.tensor(padded, device=device)
    sums_N = first_BV[samples_N, targets_NL[:, 0]]
    if longest > 1:
        inputs_NL = targets_NL[:, :-1]
        _, logits_NLV = continue_prompts(
            model, select_rows(prompt, samples_N), inputs_NL.clamp(min=0), (inputs_NL >= 0).long()
        )
        sums_N = sums_N - F.cross_entropy(
            logits_NLV.flatten(0, 1), targets_NL[:, 1:].flatten(), ignore_index=-1, reduction="none"
        ).view(len(chunk), -1).sum(-1)
    return sums_N.double().tolist()


def _chunks(
    rows: Sequence[tuple[int, int, list[int]]], most_rows: int
) -> Iterator[Sequence[tuple[int, int, list[int]]]]:
    """Cut rows sorted by length so that no padded chunk exceeds MAX_TOKENS_PER_PASS (one row always fits) or
    ``most_rows``.
    """
    start = 0
    for end in range(1, len(rows) + 1):
        full = end - start == most_rows
        if end == len(rows) or full or len(rows[end][2]) * (end + 1 - start) > MAX_TOKENS_PER_PASS:
            yield rows[start:end]
            start = end


def greedy_tokens(
    model: Model, prompt: PromptPass, stop_ids: Collection[int], *, max_new_tokens: int, pad_id: int
) -> list[list[int]]:
    """The most likely token again and again until one of ``stop_ids`` (left out) or ``max_new_tokens`` a row.

    Goes on from the prompt's cache **in place**: run the ranking first.
    """
    stop_S = torch.tensor(sorted(stop_ids), device=prompt.logits_BV.device)
    running_B = torch.ones_like(prompt.next_B, dtype=torch.bool)
    columns: list[Tensor] = []
    while True:
        token_B = prompt.logits_BV.argmax(-1)
        running_B = running_B & ~torch.isin(token_B, stop_S)
        columns.append(torch.where(running_B, token_B, -1))
        if len(columns) == max_new_tokens or not running_B.any():
            break
        ids_BL = torch.where(running_B, token_B, pad_id)[:, None]
        prompt, _ = continue_prompts(model, prompt, ids_BL, torch.ones_like(ids_BL))
    return [[token for token in row if token >= 0] for row in torch.stack(columns, dim=1).tolist()]
