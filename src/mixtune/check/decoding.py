"""Rule 2: the same selection in training and in generation, so teacher-forced logits equal those of every way to write.

Shape suffixes: B rows, S returned sequences, N new tokens, V vocabulary.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mixtune.check.examples import Example, Inputs, NotApplicableError
from mixtune.check.results import Tally
from mixtune.check.subject import NEW_TOKENS, Subject, Written, need_two, same_text

BEAMS = {"num_beams": 3, "num_return_sequences": 2}
SAMPLED = {"do_sample": True, "num_return_sequences": 3}


def training_mode(subject: Subject, tally: Tally) -> None:
    """A forward in training mode (dropout off) gives what one in evaluation mode gives."""
    inputs, seen = subject.in_a_batch()
    subject.model.train()
    for module in subject.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    try:
        found = subject.look(inputs).logits
    finally:
        subject.model.eval()
    where = inputs["attention_mask"].bool()
    tally.close(found[where], seen.logits[where], "logits")


def step_by_step(subject: Subject, tally: Tally) -> None:
    """Each answer token by token through the cache: the logits of a training forward over the whole of it."""
    for each in subject.few:
        answer = each.answer[: NEW_TOKENS + 1]
        forced = subject.forced([each], answer[None])[0]
        found = _stepped(subject, each, answer)
        tally.close(found, forced, "logits")


def _stepped(subject: Subject, example: Example, answer: Tensor) -> Tensor:
    inputs = subject.batch([example.prompt()], "right", labels=False)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        out = subject.run(inputs, use_cache=True)
        rows = [out.logits[:, -1]]
        for token in answer[:-1]:
            mask = torch.cat([mask, mask.new_ones(1, 1)], 1)
            given = {"input_ids": token.view(1, 1), "attention_mask": mask}
            out = subject.run(given, past_key_values=out.past_key_values, use_cache=True)
            rows.append(out.logits[:, -1])
    return torch.cat(rows)


def greedy(subject: Subject, tally: Tally) -> None:
    """What `generate` computed for its own text is what a training forward gives for that text."""
    written = subject.greedy(subject.examples)
    tally.close(written.logits, subject.forced(subject.examples, written.tokens), "logits")


def without_cache(subject: Subject, tally: Tally) -> None:
    """`use_cache=False` writes what the cache writes."""
    plain = subject.write(subject.few, use_cache=False)
    same_text(tally, plain, subject.greedy(subject.few), "logits")


def static_cache(subject: Subject, tally: Tally) -> None:
    """A static cache writes what the growing one writes."""
    fixed = subject.write(subject.few, cache_implementation="static")
    same_text(tally, fixed, subject.greedy(subject.few), "logits")


def beams(subject: Subject, tally: Tally) -> None:
    """Every sequence that beam search returns was computed as a training forward computes it."""
    _many(subject, tally, **BEAMS)


def returned_sequences(subject: Subject, tally: Tally) -> None:
    """So was every sampled sequence of `num_return_sequences`."""
    _many(subject, tally, **SAMPLED)


def _many(subject: Subject, tally: Tally, **options: int) -> None:
    written = subject.write(subject.few, **options)
    count = options["num_return_sequences"]
    examples = [each for each in subject.few for _ in range(count)]
    tally.close(_chosen(written), subject.forced(examples, written.tokens), "logits")


def _chosen(written: Written) -> Tensor:
    """Logits [S, N, V] behind each token of each returned sequence; beams change places while they are written."""
    places = getattr(written.output, "beam_indices", None)
    if places is None:
        return written.logits
    places_SN = places[:, : written.logits.shape[1]]
    return written.logits[places_SN, torch.arange(places_SN.shape[1], device=places_SN.device)]


def assisted(subject: Subject, tally: Tally) -> None:
    """Prompt-lookup decoding, which guesses several tokens at once, writes what greedy decoding writes."""
    for each in subject.few:
        guessed = subject.write([each], prompt_lookup_num_tokens=3)
        same_text(tally, guessed, subject.greedy([each]), "logits")


def continued_chat(subject: Subject, tally: Tally) -> None:
    """A second question on a returned cache is answered under the selection of the first prompt."""
    example = subject.examples[0]
    first = subject.greedy([example])
    cache = getattr(first.output, "past_key_values", None)
    if cache is None:
        raise NotApplicableError("generate returns no cache")
    more = torch.cat([first.tokens[0], subject.words[:3]])
    inputs = subject.batch([example.continued(more)], "left", labels=False)
    pictures = example.pictures
    again = subject.go_on(
        {name: value for name, value in inputs.items() if name not in pictures}, past_key_values=copy.deepcopy(cache)
    )
    whole = subject.batch([example.continued(torch.cat([more, again.tokens[0]]))], "left", labels=False)
    forced = subject.look({**whole, "prompt_mask": _first(whole, example)}).logits[:, -NEW_TOKENS - 1 : -1]
    tally.close(again.logits, forced, "logits")


def _first(inputs: Inputs, example: Example) -> Tensor:
    mask = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    mask[:, : example.prompt_length] = True
    return mask


def moved_cache(subject: Subject, tally: Tally) -> None:
    """Repeat, reorder and select rows of a filled cache: each row goes on as it would have gone on in its own place."""
    need_two(subject)
    examples = subject.few
    inputs = subject.batch([each.prompt() for each in examples], "left", labels=False)
    count = len(examples)
    token = subject.words[:1]
    expected = subject.forced(examples, token.repeat(2).expand(count, 2))[:, 1]
    with torch.no_grad():
        cache = subject.run(inputs, use_cache=True).past_key_values
        cache.batch_repeat_interleave(2)
        cache.reorder_cache(torch.arange(2 * count - 1, -1, -1, device=token.device))
        cache.batch_select_indices(torch.arange(0, 2 * count, 2, device=token.device))
        mask = torch.cat([inputs["attention_mask"].flip(0), token.new_ones(count, 1)], 1)
        given = {"input_ids": token.expand(count, 1), "attention_mask": mask}
        found = subject.run(given, past_key_values=cache, use_cache=True).logits[:, -1]
    tally.close(found, expected.flip(0), "logits")
