"""One batch of samples to one row each: the prompt pass, the ranking, the greedy answer, the routing."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.recording import record_routing
from mixtune.config import movable_path
from mixtune.data.sample import Sample
from mixtune.evaluate.benchmarks.samples import BenchmarkSample, benchmark_facts, score_answer
from mixtune.evaluate.forward import Model, PromptPass, run_prompts
from mixtune.evaluate.questions import Questioner, prompt_of, target_of
from mixtune.evaluate.ranking import greedy_tokens, rank_options
from mixtune.evaluate.scorers import best_option, exact_match
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.evaluate.usage import batch_usage, pack


class Answerer:
    """Questions a model: `rows(samples)` answers a batch. `layers` are the routed layers met so far, in order."""

    def __init__(
        self,
        model: Model,
        questioner: Questioner,
        settings: EvaluateSettings,
        groups: Mapping[str, TaskGroup],
    ):
        self.model, self.questioner, self.settings, self.groups = model, questioner, settings, groups
        processor = questioner.encoder.processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.pad_id = next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)
        self.records_usage = settings.record_usage and any(isinstance(m, MixtureLinear) for m in model.modules())
        self.layers: list[str] = []

    def rows(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One row a sample, as samples.jsonl has them. Ranking first: the greedy answer grows the shared cache."""
        with drawn_alike(samples):
            prompt, usage_BSLE = self._prompt_pass(samples)
            ranked = self._rank(samples, prompt) if self.settings.rank else [{} for _ in samples]
            greedy = self._greedy(samples, prompt) if self.settings.greedy else [{} for _ in samples]
        rows = [self._facts(sample) | r | g for sample, r, g in zip(samples, ranked, greedy, strict=True)]
        if usage_BSLE is not None:
            for row, counts_SLE in zip(rows, usage_BSLE, strict=True):
                row["selection"] = pack(counts_SLE)
        return rows

    def _prompt_pass(self, samples: Sequence[Sample]) -> tuple[PromptPass, np.ndarray | None]:
        prompts = [self.questioner.prompt(sample) for sample in samples]
        with record_routing(self.model) if self.records_usage else nullcontext() as record:
            prompt = run_prompts(self.model, prompts, self.pad_id)
        selections = record.selections if record is not None else {}
        if not selections:
            return prompt, None
        self.layers = list(selections)
        return prompt, batch_usage(selections, prompt.mask_BT)

    def _facts(self, sample: Sample) -> dict[str, Any]:
        group = self.groups.get(sample.task, TaskGroup())
        return {
            "id": sample.id,
            "task": sample.task,
            "domain": group.domain,
            "split": group.split,
            "image": movable_path(sample.images[0].path) if sample.images else None,
            "prompt": prompt_of(sample),
            "target": target_of(sample),
            "options": list(sample.options),
            **benchmark_facts(sample),
        }

    def _rank(self, samples: Sequence[Sample], prompt: PromptPass) -> list[dict[str, Any]]:
        options = [[self.questioner.continuation(s, option) for option in s.options] for s in samples]
        found: list[dict[str, Any]] = []
        for sample, scores in zip(samples, rank_options(self.model, prompt, options), strict=True):
            if not scores:
                found.append({"ranked": None, "scores": [], "rank_correct": None})
                continue
            ranked = sample.options[best_option(scores)]
            right = exact_match(ranked, target_of(sample))
            found.append({"ranked": ranked, "scores": [round(score, 6) for score in scores], "rank_correct": right})
        return found

    def _greedy(self, samples: Sequence[Sample], prompt: PromptPass) -> list[dict[str, Any]]:
        limits = [token_limit(sample, self.settings) for sample in samples]
        answers = greedy_tokens(
            self.model, prompt, self.stop_ids(samples[0]), max_new_tokens=max(limits), pad_id=self.pad_id
        )
        # Greedy tokens do not depend on what follows them: cut short, an answer is what its own limit would have given.
        cut = [ids[:limit] for ids, limit in zip(answers, limits, strict=True)]
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in cut]
        return [{"answer": text, **_scored(sample, text)} for sample, text in zip(samples, texts, strict=True)]

    def stop_ids(self, sample: Sample) -> set[int]:
        """What ends an answer: the model's and the tokenizer's ends, and
        the special token that ends a trained answer.
        """
        declared = self.model.generation_config.eos_token_id
        stop = set(declared if isinstance(declared, Sequence) else [declared]) | {self.tokenizer.eos_token_id}
        last = self.questioner.continuation(sample, target_of(sample))[-1]
        if last in self.tokenizer.all_special_ids:
            stop.add(last)
        return stop - {None}


@contextmanager
def drawn_alike(samples: Sequence[Sample]) -> Iterator[None]:
    """What is drawn inside (`random_routing`) depends on these samples alone, so a launch can be repeated."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(zlib.crc32("\n".join(sample.id for sample in samples).encode()))
        yield


def token_limit(sample: Sample, settings: EvaluateSettings) -> int:
    """The most tokens a greedy answer may have: the benchmark's own limit, else that of the settings."""
    return sample.row.max_new_tokens if isinstance(sample, BenchmarkSample) else settings.max_new_tokens


def _scored(sample: Sample, text: str) -> dict[str, Any]:
    """Whether a greedy answer is right, and its score: by the benchmark's rule, else exact match."""
    if isinstance(sample, BenchmarkSample):
        return score_answer(sample, text)
    right = exact_match(text, target_of(sample))
    return {"greedy_correct": right, "score": float(right)}
