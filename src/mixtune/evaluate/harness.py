"""mixtune's models inside lmms-eval: its tasks ask, routing stays right under its batching. Needs the extra `bench`.

lmms-eval finds this file by the entry point `lmms_eval.models`:
`lmms-eval --model mixtune --model_args pretrained=BASE,adapter=DIR --tasks mme`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from mixtune.config import ModelSettings, near
from mixtune.data.collate import Encoder
from mixtune.data.sample import PLACEHOLDER, ImageRef, Message, Sample
from mixtune.evaluate.answering import Answerer
from mixtune.evaluate.forward import run_prompts
from mixtune.evaluate.preflight import check_adapter
from mixtune.evaluate.questions import Questioner
from mixtune.evaluate.ranking import greedy_tokens, rank_options
from mixtune.evaluate.run import evaluating
from mixtune.evaluate.settings import EvaluateSettings
from mixtune.training.loading import load_model
from mixtune.training.parts import load_adapter

MAX_NEW_TOKENS = 128  # of tasks that set no limit


def manifest() -> ModelManifest:
    """What the entry point gives: the name "mixtune" and the class it stands for."""
    return ModelManifest(model_id="mixtune", simple_class_path=f"{__name__}.MixtuneModel")


class MixtuneModel(lmms):
    """A base model with or without an adapter, answering lmms-eval's requests greedily and by log-likelihood.

    ``pretrained`` is a folder or hub id, ``adapter`` the folder of a run. A batch shares forward passes and changes no
    answer in float32. Raises ValueError for unknown arguments, sampling, beams, and anything shown but pictures.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        adapter: str | None = None,
        dtype: str = "bfloat16",
        attn_implementation: str = "sdpa",
        max_length: int = 8192,
        batch_size: int = 1,
        device: str | None = None,
        **others: Any,
    ):
        super().__init__()
        if unknown := [name for name in others if name != "max_batch_size"]:
            known = ("pretrained", "adapter", "dtype", "attn_implementation", "max_length", "batch_size", "device")
            raise ValueError(f"--model_args {unknown[0]}: unknown argument{near(unknown[0], known)}")
        if adapter is not None:
            check_adapter(Path(adapter))
        given = {"name_or_path": pretrained, "dtype": dtype, "attn_implementation": attn_implementation}
        base, processor = load_model(ModelSettings.model_validate(given))
        model: Any = base if adapter is None else load_adapter(base, adapter)
        self.model = model if device is None else model.to(device)
        self.batch_size, self.device = int(batch_size), self.model.device
        self.questioner = Questioner(Encoder(processor, int(max_length)))
        self.answerer = Answerer(self.model, self.questioner, EvaluateSettings(), {})

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The greedy answer to each request, cut at the first of its ``until`` texts."""
        asked = [(_sample(self, *each.args[2:], text=each.args[0]), dict(each.args[1])) for each in requests]
        limits = [_limit(wanted) for _, wanted in asked]
        answers = [""] * len(asked)
        for batch in self._batches([sample for sample, _ in asked], limits):
            with evaluating(self.model):
                prompt = self._prompts([asked[n][0] for n in batch])
                stop = self.answerer.stop_ids(asked[batch[0]][0])
                most = max(limits[n] for n in batch)
                tokens = greedy_tokens(self.model, prompt, stop, max_new_tokens=most, pad_id=self.answerer.pad_id)
            for n, ids in zip(batch, tokens, strict=True):
                text = self.answerer.tokenizer.decode(ids[: limits[n]], skip_special_tokens=True).strip()
                answers[n] = _cut(text, asked[n][1].get("until"))
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """For each continuation (loss a token, whether greedy decoding gives it), the token that ends the answer
        included. Continuations of one question share its pass.

        A loss, because lmms-eval takes the smallest; inside a GenerationResult, because lmms-eval 0.7.3 makes a string
        of everything else that is returned.
        """
        together: dict[tuple[Any, ...], list[int]] = {}
        for n, each in enumerate(requests):
            context, _, _, *place = each.args
            together.setdefault((context, *place), []).append(n)
        groups = list(together.values())
        samples = [_sample(self, *requests[g[0]].args[2:], text=requests[g[0]].args[0]) for g in groups]
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for batch in self._batches(samples, [0] * len(samples)):
            members = [groups[b] for b in batch]
            texts = [[_continuation(self, requests[n]) for n in group] for group in members]
            ids = [
                [self.questioner.continuation(samples[b], text) for text in row]
                for b, row in zip(batch, texts, strict=True)
            ]
            with evaluating(self.model):
                prompt = self._prompts([samples[b] for b in batch])
                means = rank_options(self.model, prompt, ids)
                longest = max(len(each) for row in ids for each in row)
                greedy = greedy_tokens(self.model, prompt, (), max_new_tokens=longest, pad_id=self.answerer.pad_id)
            for row, group in enumerate(members):
                for n, mean, tokens in zip(group, means[row], ids[row], strict=True):
                    found[n] = (-mean, greedy[row][: len(tokens)] == tokens)
        return [GenerationResult(text=each) for each in found]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: raises ValueError."""
        raise ValueError("mixtune answers one question at a time; tasks of several rounds are not offered")

    def _prompts(self, samples: Sequence[Sample]) -> Any:
        return run_prompts(self.model, [self.questioner.prompt(s) for s in samples], self.answerer.pad_id)

    def _batches(self, samples: Sequence[Sample], limits: Sequence[int]) -> Iterator[list[int]]:
        """Positions of the samples, those of like length together."""
        order = sorted(
            range(len(samples)),
            key=lambda n: (limits[n], len(samples[n].images), len(samples[n].messages[0].text)),
        )
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]


def _sample(owner: MixtuneModel, to_visual: Any, doc_id: int, task: str, split: str, *, text: str) -> Sample:
    """A request as a sample: its pictures first, then its text. The answer in it is a stand-in that is never read."""
    shown = to_visual(owner.task_dict[task][split][doc_id]) or []
    images = tuple(_reference(picture, f"{task}[{doc_id}].{n}") for n, picture in enumerate(shown))
    question = PLACEHOLDER * len(images) + "\n" * bool(images) + text.replace(PLACEHOLDER, "").strip()
    messages = (Message("user", question), Message("assistant", "yes"))
    return Sample(id=f"{task}[{doc_id}]", messages=messages, images=images, task=task, origin=f"{task}[{doc_id}]")


def _reference(picture: Any, name: str) -> ImageRef:
    if not hasattr(picture, "convert"):
        raise ValueError(f"{name}: {type(picture).__name__} is no picture; mixtune sees pictures only")
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "png")
    return ImageRef(name, stream.getvalue)


def _continuation(owner: MixtuneModel, request: Any) -> str:
    target = request.args[1]
    if callable(target):
        _, _, _, doc_id, task, split = request.args
        target = target(owner.task_dict[task][split][doc_id])
    return str(target).strip()


def _limit(wanted: dict[str, Any]) -> int:
    """The most new tokens. ValueError for what is not greedy decoding."""
    if wanted.get("do_sample") or (wanted.get("num_beams") or 1) != 1 or (wanted.get("temperature") or 0) > 0:
        raise ValueError(f"generation_kwargs {wanted}: mixtune decodes greedily; set temperature to 0, one beam")
    return int(wanted.get("max_new_tokens") or MAX_NEW_TOKENS)


def _cut(text: str, until: Any) -> str:
    """`text` before the first of the texts that end an answer."""
    ends = [until] if isinstance(until, str) else list(until or ())
    for end in filter(None, ends):
        text = text.split(end)[0]
    return text.strip()
