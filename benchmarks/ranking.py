"""Ranking candidates from one shared prompt pass, beside a full forward of every prompt with every candidate.

shared: what `mixtune evaluate` does; a prompt is computed once, its candidates run against copies of its cache. naive:
rows of prompt and candidate, as many a forward as is fast, sorted by length so that little is padding. Both compute
logits where a candidate's tokens are predicted and nowhere else, with the same float32 head, and give equal scores; a
harness that computes all logits is slower than this `naive`.

The model has the pocket model's widths and a fifteenth of its layers and vocabulary, so that each part keeps its share.
Candidates are as long as CIFAR-100's names in the pocket model's tokens, with the token that ends the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Case, Run
from benchmarks.models import is_mixture, pocket_language_model, shared_copy, weight_bytes, with_mixture
from benchmarks.options import Settings, option
from benchmarks.results import Target
from mixtune.evaluate.forward import run_prompts
from mixtune.evaluate.ranking import rank_options
from mixtune.evaluate.run import evaluating

NAME_LENGTHS = (2, 3, 3, 2, 4, 3)  # tokens of a candidate, in turn
SHARED, NAIVE = "shared", "naive"
Questions = tuple[Tensor, list[list[list[int]]]]
"""Prompts [B, T], and the tokens of every candidate of each."""


@dataclass(frozen=True, kw_only=True)
class RankingSettings(Settings):
    """Sizes of the model, the prompts and the candidates."""

    prompts: tuple[int, ...] = option((40, 600), "tokens of a prompt, those of its picture too")
    candidates: tuple[int, ...] = option((4, 10, 100), "candidates of a prompt")
    tokens: int = option(640, "prompt tokens asked together: 16 short prompts, or one of 600")
    naive_tokens: int = option(4096, "naive: prompt tokens of a forward, which make its rows")
    adapters: tuple[str, ...] = option(("none", "mixlora"), "presets put on the model; none: no adapter")
    layers: int = option(2, "layers of the model")
    vocabulary: int = option(3277, "tokens the model knows")


SETTINGS = RankingSettings
TARGETS: tuple[Target, ...] = ()


def cases(settings: RankingSettings) -> Iterator[Case]:
    """One case for each dtype, adapter, prompt length and number of candidates, small first."""
    for dtype in settings.dtypes:
        base = pocket_language_model(settings.layers, settings.vocabulary, getattr(torch, dtype), settings.device)
        for adapter in settings.adapters:
            make = partial(shared_copy, base) if adapter == "none" else partial(with_mixture, base, adapter)
            for length in settings.prompts:
                for candidates in settings.candidates:
                    batch = max(1, settings.tokens // length)
                    facts = {"dtype": dtype, "adapter": adapter, "prompts": batch, "tokens": length}
                    asked = questions(batch, length, candidates, settings)
                    yield Case(
                        facts={**facts, "candidates": candidates, "layers": settings.layers},
                        arms={way: partial(arm, way, make, asked, settings) for way in WAYS},
                        reference=NAIVE,
                        work=batch,
                        unit="prompts",
                        shared_bytes=weight_bytes(base),
                    )


def arm(way: str, make: Callable[[], nn.Module], asked: Questions, settings: RankingSettings) -> Run:
    """All candidates of all prompts scored once."""
    model, (prompts_BT, options) = make().eval(), asked
    rows = max(1, settings.naive_tokens // prompts_BT.shape[1])

    def run() -> Iterator[str]:
        with evaluating(model):
            WAYS[way](model, prompts_BT, options, rows)
        yield "scores"

    return run


def questions(batch: int, length: int, candidates: int, settings: RankingSettings) -> Questions:
    """Random prompts, and for each the same random candidates, whose first tokens differ."""
    generator, words = torch.Generator().manual_seed(0), settings.vocabulary
    prompts_BT = torch.randint(1, words, (batch, length), generator=generator).to(settings.device)
    first_O = torch.randperm(words - 1, generator=generator)[:candidates] + 1
    lengths = [NAME_LENGTHS[place % len(NAME_LENGTHS)] for place in range(candidates)]
    rest = [torch.randint(1, words, (count - 1,), generator=generator) for count in lengths]
    one = [[int(first), *others.tolist()] for first, others in zip(first_O, rest, strict=True)]
    return prompts_BT, [one] * batch


def shared_scores(model: Any, prompts_BT: Tensor, options: Sequence[Sequence[Sequence[int]]], rows: int) -> Tensor:
    """Log-likelihood a token of every candidate, [B, O], from one pass over the prompts; `rows` is not needed."""
    prompt = run_prompts(model, [{"input_ids": ids_T} for ids_T in prompts_BT], pad_id=0)
    return torch.tensor(rank_options(model, prompt, options))


def naive_scores(model: Any, prompts_BT: Tensor, options: Sequence[Sequence[Sequence[int]]], rows: int) -> Tensor:
    """The same, [B, O], from a forward of every prompt with every candidate, `rows` at a time."""
    all_rows = [(b, o, ids) for b, row in enumerate(options) for o, ids in enumerate(row)]
    all_rows.sort(key=lambda row: len(row[2]))
    scores_BO = torch.zeros(len(options), len(options[0]))
    for start in range(0, len(all_rows), rows):
        chunk = all_rows[start : start + rows]
        longest = max(len(ids) for _, _, ids in chunk)
        targets_NL = torch.tensor([[*ids, *[-1] * (longest - len(ids))] for _, _, ids in chunk]).to(prompts_BT.device)
        logits_NLV = _logits(model, prompts_BT[[b for b, _, _ in chunk]], targets_NL)
        losses_NL = F.cross_entropy(logits_NLV.transpose(1, 2), targets_NL, ignore_index=-1, reduction="none")
        for (b, o, ids), loss in zip(chunk, losses_NL.sum(-1).tolist(), strict=True):
            scores_BO[b, o] = -loss / len(ids)
    return scores_BO


def _logits(model: Any, prompts_NT: Tensor, targets_NL: Tensor) -> Tensor:
    """Float32 logits [N, L, V] of the positions before each target, which are padded with -1 on the right."""
    ids_NT = torch.cat([prompts_NT, targets_NL[:, :-1].clamp(min=0)], dim=1)
    mask_NT = torch.cat([torch.ones_like(prompts_NT), (targets_NL[:, :-1] >= 0).long()], dim=1)
    in_prompt_T = torch.arange(ids_NT.shape[1], device=ids_NT.device) < prompts_NT.shape[1]
    routed = {"prompt_mask": in_prompt_T.expand_as(ids_NT)} if is_mixture(model) else {}
    output = model(
        input_ids=ids_NT, attention_mask=mask_NT, use_cache=False, logits_to_keep=targets_NL.shape[1], **routed
    )
    return output.logits.float()


WAYS: dict[str, Callable[..., Tensor]] = {NAIVE: naive_scores, SHARED: shared_scores}
