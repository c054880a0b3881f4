"""Contrastive warm start of a projector, without the language model: image tokens learn to mean the caption's words.

Letters: N pictures, P image tokens of a picture, F width of the vision features, D width of the token embeddings,
B pictures of one step.

For a picture with projected tokens z_PD and a caption whose content words have token embeddings e_1 … e_m,

    v = mean_p z_p,   u = mean_i e_i
    loss = InfoNCE(v, u) + mean_p (log ‖z_p‖ − log ‖e‖)²

where InfoNCE is the symmetric cross-entropy over cosine similarities in the batch divided by a temperature of 0.07,
both sides centred on the data's mean word vector, captions of equal words never counted as each other's negatives;
and log ‖e‖ is the mean log norm of the captions' word embeddings, so that image tokens arrive at the scale of text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from mixtune.config import TrainSettings
from mixtune.training.parts import projector

TEMPERATURE = 0.07
CACHE_BYTES = 2 * 2**30  # features held in memory; pictures beyond are left to the language-model steps
FUNCTION_WORDS = frozenset(
    "a an and are as at be but by for from has have he her his i in is it its me my no not of on or our she so that "
    "the their them there these they this those to was we were what which who with you your image picture photo "
    "shows showing shown".split()
)


@dataclass(frozen=True, kw_only=True)
class WarmData:
    """Frozen facts of the pictures.

    features [N, P, F] as the projector receives them, words [N, D] the captions' mean word embeddings, log_norm the
    mean log norm of a word embedding.
    """

    features: Tensor
    words: Tensor
    log_norm: float

    @property
    def bytes(self) -> int:
        """Memory the features take."""
        return self.features.numel() * self.features.element_size()


def content_words(text: str) -> list[str]:
    """Words and numbers of a caption that name something: function words and punctuation left out, order kept.

    If nothing is left, all words.
    """
    words = re.findall(r"[^\W_]+", text)
    return [word for word in words if word.lower() not in FUNCTION_WORDS] or words


def word_vector(text: str, tokenizer: Any, table_VD: Tensor) -> Tensor | None:
    """Token embeddings [m, D] of the caption's content words, each tokenised as in running text; None if no words."""
    pieces = [tokenizer(" " + word, add_special_tokens=False)["input_ids"] for word in content_words(text)]
    ids = [piece for word in pieces for piece in word]
    return table_VD[torch.tensor(ids, device=table_VD.device)].float() if ids else None


@torch.no_grad()
def projector_inputs(model: Any, pixels: Tensor) -> Tensor:
    """[B, P, F]: what the projector receives for these pictures, seen while `get_image_features` runs."""
    seen: list[Tensor] = []
    handle = projector(model)[1].register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    try:
        model.get_image_features(pixel_values=pixels)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].ndim != 3:
        raise ValueError("train.warm_start_steps: needs a model that projects all image tokens of a batch in one call")
    return seen[0]


def _fits(first: Tensor, wanted: int) -> int:
    """How many pictures' features fit into CACHE_BYTES, at most `wanted`, judged by one batch."""
    per_picture = first[0].numel() * first.element_size()
    return max(1, min(wanted, CACHE_BYTES // per_picture))


def collect(
    model: PreTrainedModel,
    tokenizer: Any,
    pictures: Callable[[int], Tensor],
    captions: Sequence[str],
    batch_size: int = 32,
) -> WarmData:
    """Vision features and word vectors of `captions` and `pictures(i)` [C, H, W], each picture encoded once.

    Captions without words are left out; so are pictures beyond 2 GiB of features.
    """
    table_VD = next(model.get_input_embeddings().parameters()).detach()
    found = {i: word_vector(text, tokenizer, table_VD) for i, text in enumerate(captions)}
    vectors = {i: vector for i, vector in found.items() if vector is not None}
    usable = list(vectors)
    if not usable:
        raise ValueError("train.warm_start_steps: no sample has one picture and an answer with words in it")
    dtype, device = next(model.parameters()).dtype, table_VD.device
    features: list[Tensor] = []
    limit = len(usable)
    with tqdm(total=limit, desc="encoding pictures", unit="picture") as bar:
        for start in range(0, limit, batch_size):
            if start >= limit:
                break
            batch = usable[start : min(start + batch_size, limit)]
            pixels = torch.stack([pictures(i) for i in batch]).to(device, dtype)
            features.append(projector_inputs(model, pixels).to(torch.bfloat16))
            limit = _fits(features[0], limit)
            bar.update(len(batch))
    features_NPF = torch.cat(features)[:limit]
    kept = [vectors[i] for i in usable[: len(features_NPF)]]
    norms = torch.cat([vector.norm(dim=-1) for vector in kept])
    words_ND = torch.stack([vector.mean(dim=0) for vector in kept])
    return WarmData(features=features_NPF, words=words_ND, log_norm=norms.log().mean().item())


def warm_loss(z_BPD: Tensor, words_BD: Tensor, centre_D: Tensor, log_norm: float) -> Tensor:
    """The loss of this module's head text for one batch, a scalar."""
    v_BD = F.normalize(z_BPD.mean(dim=1) - centre_D, dim=-1)
    u_BD = F.normalize(words_BD - centre_D, dim=-1)
    scores_BB = v_BD @ u_BD.T / TEMPERATURE
    same_BB = (words_BD[:, None] == words_BD[None]).all(dim=-1)
    same_BB.fill_diagonal_(False)
    scores_BB = scores_BB.masked_fill(same_BB, float("-inf"))
    target_B = torch.arange(len(scores_BB), device=scores_BB.device)
    contrast = (F.cross_entropy(scores_BB, target_B) + F.cross_entropy(scores_BB.T, target_B)) / 2
    scale = (z_BPD.norm(dim=-1).clamp_min(1e-6).log() - log_norm).square().mean()
    return contrast + scale


def warm_start(model: PreTrainedModel, data: WarmData, settings: TrainSettings) -> list[float]:
    """Train the projector on `data` for `warm_start_steps` steps of AdamW with a cosine rate; return the losses.

    The projector is expected in float32. Batches are drawn from torch's generator, so a seed fixes the result.
    """
    module = projector(model)[1]
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.warm_start_learning_rate, weight_decay=settings.weight_decay)
    steps = settings.warm_start_steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    size = min(settings.warm_start_batch_size, len(data.features))
    centre_D, losses = data.words.mean(dim=0), []
    bar = tqdm(range(steps), desc="warm start", unit="step")
    for _ in bar:
        chosen = torch.randperm(len(data.features))[:size]
        z_BPD = module(data.features[chosen].float()).float()
        loss = warm_loss(z_BPD, data.words[chosen], centre_D, data.log_norm)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, settings.max_grad_norm or float("inf"))
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix_str(f"loss {losses[-1]:.3f}")
    return losses
