"""Ranking and greedy decoding against the obvious way: one full forward a sequence, one sample at a time.

Legend: T tokens, V vocabulary.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mixtune.config import DataSettings, SourceSettings
from mixtune.data import Encoder, read_samples
from mixtune.evaluate import ranking
from mixtune.evaluate.forward import precise_head, run_prompts
from mixtune.evaluate.questions import Questioner
from mixtune.evaluate.ranking import greedy_tokens, rank_options
from routed import adapted
from tiny import tiny_llava, tiny_processor
from tolerances import TOL

OPTIONS = (("red", "light green", "blue"), ("yes", "no"), ("one short answer please", "1"))


def questions(path):
    """Three samples of different prompt lengths with options of one to four words."""
    samples, _ = read_samples(DataSettings(sources=(SourceSettings(path=str(path)),)))
    return [dataclasses.replace(s, options=o) for s, o in zip(samples[:3], OPTIONS, strict=True)]


def model_of(preset: str):
    return tiny_llava()[0] if preset == "untuned" else adapted(preset)


@torch.inference_mode()
def obvious_score(model, questioner, sample, option) -> float:
    """Mean log-likelihood of the continuation: one forward over prompt and continuation, without a cache."""
    prompt, answer = questioner.prompt(sample), questioner.continuation(sample, option)
    ids = torch.cat([prompt["input_ids"], torch.tensor(answer)])[None]
    start = len(prompt["input_ids"])
    given = {"input_ids": ids, "pixel_values": prompt["pixel_values"], "attention_mask": torch.ones_like(ids)}
    if hasattr(model, "peft_config"):
        given["prompt_mask"] = torch.arange(ids.shape[1])[None] < start
    log_TV = torch.log_softmax(model(**given).logits[0, start - 1 : -1].float(), dim=-1)
    return float(log_TV.gather(-1, torch.tensor(answer)[:, None]).mean())


@pytest.mark.parametrize("preset", ["untuned", "lora", "mixlora", "llava-mole"])
def test_shared_prompt_pass_scores_like_separate_forwards(preset, tiny_samples) -> None:
    model, questioner = model_of(preset), Questioner(Encoder(tiny_processor()))
    samples = questions(tiny_samples(3))
    ids = [[questioner.continuation(s, option) for option in s.options] for s in samples]
    with torch.inference_mode(), precise_head(model):
        prompt = run_prompts(model, [questioner.prompt(s) for s in samples], pad_id=0)
        found = rank_options(model, prompt, ids)
    wanted = [[obvious_score(model, questioner, s, option) for option in s.options] for s in samples]
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), **TOL[torch.float32])


@pytest.mark.parametrize("preset", ["untuned", "lora", "mixlora", "llava-mole"])
def test_greedy_answers_are_those_of_generate(preset, tiny_samples) -> None:
    model, questioner = model_of(preset), Questioner(Encoder(tiny_processor()))
    prompts = [questioner.prompt(s) for s in questions(tiny_samples(3))]
    with torch.inference_mode(), precise_head(model):
        found = greedy_tokens(model, run_prompts(model, prompts, pad_id=0), {2}, max_new_tokens=6, pad_id=0)
        for prompt, mine in zip(prompts, found, strict=True):
            ids = prompt["input_ids"][None]
            mask, pixels = torch.ones_like(ids), prompt["pixel_values"]
            whole = model.generate(
                input_ids=ids, attention_mask=mask, pixel_values=pixels, max_new_tokens=6, do_sample=False
            )
            theirs = whole[0, ids.shape[1] :].tolist()
            assert mine == (theirs[: theirs.index(2)] if 2 in theirs else theirs)


def test_greedy_stops_each_row_at_its_own_end(tiny_samples) -> None:
    model, questioner = model_of("untuned"), Questioner(Encoder(tiny_processor()))
    prompts = [questioner.prompt(s) for s in questions(tiny_samples(3))]
    with torch.inference_mode():
        free = greedy_tokens(model, run_prompts(model, prompts, 0), set(), max_new_tokens=6, pad_id=0)
        stop = free[0][2]
        cut = greedy_tokens(model, run_prompts(model, prompts, 0), {stop}, max_new_tokens=6, pad_id=0)
    assert cut == [row[: row.index(stop)] if stop in row else row for row in free]


def test_ranking_leaves_the_prompts_cache_alone(tiny_samples) -> None:
    model, questioner = model_of("mixlora"), Questioner(Encoder(tiny_processor()))
    samples = questions(tiny_samples(3))
    ids = [[questioner.continuation(s, option) for option in s.options] for s in samples]
    prompts = [questioner.prompt(s) for s in samples]
    with torch.inference_mode():
        used, fresh = run_prompts(model, prompts, 0), run_prompts(model, prompts, 0)
        rank_options(model, used, ids)
        answers = [greedy_tokens(model, each, {2}, max_new_tokens=4, pad_id=0) for each in (used, fresh)]
    assert answers[0] == answers[1]


def test_a_long_prompt_is_copied_for_few_options_at_a_time(tiny_samples, monkeypatch) -> None:
    model, questioner = model_of("mixlora"), Questioner(Encoder(tiny_processor()))
    samples = questions(tiny_samples(3))
    ids = [[questioner.continuation(s, option) for option in s.options] for s in samples]
    prompts, copied, real = [questioner.prompt(s) for s in samples], [], ranking.select_rows
    monkeypatch.setattr(ranking, "select_rows", lambda p, rows: copied.append(len(rows)) or real(p, rows))
    with torch.inference_mode():
        prompt = run_prompts(model, prompts, 0)
        whole = rank_options(model, prompt, ids)
        assert max(copied) > 2
        monkeypatch.setattr(ranking, "MAX_CACHED_TOKENS", 2 * prompt.mask_BT.shape[1] + 1)
        copied.clear()
        few = rank_options(model, prompt, ids)
    assert max(copied) == 2 and sum(copied) == sum(map(len, ids))
    for mine, theirs in zip(few, whole, strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), **TOL[torch.float32])


def test_continuations_end_the_turn_and_are_those_of_training(tiny_samples) -> None:
    processor = tiny_processor()
    questioner = Questioner(Encoder(processor))
    for sample in questions(tiny_samples(3)):
        target = sample.messages[-1].text
        labels = questioner.encoder.encode(sample)["labels"]
        assert questioner.continuation(sample, target) == labels[labels != -100].tolist()
        assert questioner.continuation(sample, "red")[-1] == processor.tokenizer.eos_token_id


def test_head_is_exact_within_the_block_only() -> None:
    model = tiny_llava()[0].to(torch.bfloat16)
    hidden = torch.randn(2, 3, 32).to(torch.bfloat16)
    wanted = hidden.float() @ model.lm_head.weight.float().T
    with torch.inference_mode(), precise_head(model):
        torch.testing.assert_close(model.lm_head(hidden), wanted, **TOL[torch.float32])
    assert model.lm_head(hidden).dtype == torch.bfloat16
    assert "forward" not in model.lm_head.__dict__
