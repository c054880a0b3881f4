"""The seven rules of routing (docs: what to rely on), each as a property of every preset."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from mixtune import get_peft_model, record_routing
from mixtune.adapters import auxiliary_loss, dead_routers, router_parameters
from mixtune.adapters.hooks import ModelHooks
from mixtune.routing.cache import kept_by
from mixtune.training.setup import checkpoint_activations
from routed import (
    BY_DESIGN,
    IMAGE,
    INSTANCE,
    PRESETS,
    adapted,
    attended,
    batch,
    config,
    keeping,
    packed,
    prompts,
    randomise,
    sample,
)  # fmt: skip
from tiny import tiny_llava
from tolerances import TOL

CLOSE = TOL[torch.float32]


def rule(number):
    """Run a test on every preset that keeps this rule (`routed.BY_DESIGN` says why another does not)."""
    return pytest.mark.parametrize("preset", keeping(number))


GREEDY = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5, "suppress_tokens": [IMAGE]}


@pytest.fixture(scope="module")
def zoo():
    """Samples of mixed lengths, and one prompt with nothing but a picture."""
    return [sample(seed, prompt, answer) for seed, (prompt, answer) in enumerate([(9, 4), (14, 3), (5, 1), (11, 7)])]


@pytest.fixture(scope="module")
def models():
    """One randomised model a preset, never changed by a test."""
    return {preset: adapted(preset) for preset in PRESETS}


def logits(model, found, **given):
    with torch.no_grad():
        return model(**found, **given).logits


def selected(model, found, **given):
    with record_routing(model) as seen:
        logits(model, found, **given)
    return seen


# 1. Prompt only


@rule(1)
def test_answers_and_padding_do_not_change_routing(models, preset, zoo):
    model = models[preset]
    one = batch(zoo[:1])
    other = {key: value.clone() for key, value in one.items()}
    answer = other["labels"][0] != -100
    other["input_ids"][0, answer] = other["input_ids"][0, answer].flip(0) + 1
    first, second = selected(model, one), selected(model, other)
    if preset in INSTANCE:
        assert first.prompt_lengths.tolist() == [9]
    for name, routed in first.selections.items():
        until = slice(None) if preset in INSTANCE else slice(9)
        same = second.selections[name]
        assert torch.equal(routed.indices_a[:, until] if preset in INSTANCE else routed.indices_a[0, until],
                           same.indices_a[:, until] if preset in INSTANCE else same.indices_a[0, until])  # fmt: skip
        assert torch.equal(routed.indices_b[..., :1].flatten()[:9], same.indices_b[..., :1].flatten()[:9])


@rule(1)
def test_selections_differ_between_samples(models, preset, zoo):
    seen = selected(models[preset], batch(zoo))
    if preset == "lora":
        assert seen.selections == {}
        return
    chosen = [torch.cat([each.indices_a, each.gates], -1).flatten(1) for each in seen.selections.values()]
    assert any((one != one[:1]).any() for one in chosen)  # otherwise the other tests would prove nothing


@rule(1)
def test_prompt_mask_is_taken_from_the_best_source(models, preset, zoo):
    model, found = models[preset], batch(zoo)
    given = (found["labels"] == -100) & found["attention_mask"].bool()
    before = selected(model, found)
    explicit = selected(model, {key: value for key, value in found.items() if key != "labels"}, prompt_mask=given)
    assert torch.equal(before.prompt_lengths, explicit.prompt_lengths)
    for name, routed in before.selections.items():
        assert torch.equal(routed.indices_a, explicit.selections[name].indices_a)


# 2. Same in training and generation


def stepwise(model, found, labels):
    """Logits of every answer position, one token at a time with the cache."""
    with torch.no_grad():
        out = model(**found, use_cache=True)
        rows, mask = [out.logits[:, -1]], found["attention_mask"]
        for token in labels[:-1]:
            mask = torch.cat([mask, mask.new_ones(1, 1)], 1)
            out = model(
                input_ids=token.view(1, 1), attention_mask=mask, past_key_values=out.past_key_values, use_cache=True
            )
            rows.append(out.logits[:, -1])
    return torch.cat(rows)


@rule(2)
def test_teacher_forced_equals_step_by_step(models, preset, zoo):
    for each in zoo:
        answer = each["labels"][each["labels"] != -100]
        forced = logits(models[preset], batch([each]))[0, -len(answer) - 1 : -1]
        torch.testing.assert_close(stepwise(models[preset], prompts([each]), answer), forced, **CLOSE)


def generated(model, found, **options):
    out = model.generate(
        **found, **{**GREEDY, **options}, return_dict_in_generate=True, output_scores=True, output_logits=True
    )
    return out.sequences, torch.stack(out.logits or out.scores)


@rule(2)
def test_generation_equals_teacher_forcing(models, preset, zoo):
    model, found = models[preset], prompts(zoo)
    sequences, scores = generated(model, found)
    mask = torch.cat([found["attention_mask"], torch.ones(len(zoo), 5, dtype=torch.long)], 1)
    labels = sequences.masked_fill(torch.arange(sequences.shape[1]) < found["input_ids"].shape[1], -100)
    forced = logits(
        model,
        {"input_ids": sequences, "attention_mask": mask, "pixel_values": found["pixel_values"], "labels": labels},
    )
    torch.testing.assert_close(scores.transpose(0, 1), forced[:, -6:-1], **CLOSE)


@rule(2)
@pytest.mark.parametrize("options", [{"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_greedy_is_the_same_with_other_caches(models, preset, zoo, options):
    found = prompts(zoo)
    expected, scores = generated(models[preset], found)
    sequences, other = generated(models[preset], found, **options)
    assert torch.equal(sequences, expected)
    torch.testing.assert_close(other, scores, **CLOSE)


@rule(2)
@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 3}], ids=str)
def test_beams_carry_the_selection(models, preset, zoo, options):
    found = prompts(zoo)
    cached, scores = generated(models[preset], found, **options)
    plain, others = generated(models[preset], found, **options, use_cache=False)
    assert torch.equal(cached, plain)
    torch.testing.assert_close(scores, others, **CLOSE)
    for row in range(len(zoo)):
        alone = models[preset].generate(**prompts([zoo[row]]), **{**GREEDY, **options})
        count = options.get("num_return_sequences", 1)
        assert torch.equal(alone[:, -5:], cached[row * count : (row + 1) * count, -5:])


@rule(2)
def test_returned_sequences_share_their_prompts_selection(models, preset, zoo):
    found = prompts(zoo[:2])
    torch.manual_seed(0)
    options = {**GREEDY, "do_sample": True, "num_return_sequences": 3}
    first = models[preset].generate(**found, **options)
    torch.manual_seed(0)
    second = models[preset].generate(**found, **options, use_cache=False)
    assert torch.equal(first, second)


@rule(2)
def test_assisted_decoding_equals_greedy(models, preset, zoo):
    found = prompts(zoo[1:2])
    expected = models[preset].generate(**found, **GREEDY)
    looked_up = models[preset].generate(**found, **GREEDY, prompt_lookup_num_tokens=3)
    assert torch.equal(looked_up, expected)


@rule(2)
def test_continued_chat_keeps_its_selection(models, preset, zoo):
    model, found = models[preset], prompts(zoo[:1])
    out = model.generate(**found, **GREEDY, return_dict_in_generate=True)
    more = torch.cat([out.sequences, torch.tensor([[20, 21, 22]])], 1)
    mask = torch.ones_like(more)
    cache = copy.deepcopy(out.past_key_values)
    again = model.generate(input_ids=more, attention_mask=mask, past_key_values=cache, **GREEDY)
    whole = {"input_ids": again, "attention_mask": torch.ones_like(again), "pixel_values": found["pixel_values"]}
    first = torch.zeros_like(again, dtype=torch.bool)
    first[:, : found["input_ids"].shape[1]] = True
    forced = logits(model, whole, prompt_mask=first)
    forced[..., IMAGE] = -torch.inf
    assert torch.equal(forced[0, -6:-1].argmax(-1), again[0, -5:])


@rule(2)
def test_cache_carries_selections_wherever_it_goes(models, preset, zoo):
    found = prompts(zoo[:2])
    with torch.no_grad():
        cache = models[preset](**found, use_cache=True).past_key_values
    kept = dict(kept_by(cache))
    assert bool(kept) == (preset in INSTANCE)
    copied = copy.deepcopy(cache)
    copied.batch_repeat_interleave(2)
    copied.reorder_cache(torch.tensor([3, 0, 1]))
    copied.batch_select_indices(torch.tensor([0, 2]))
    copied.crop(-1)
    for key, before in kept.items():
        assert torch.equal(kept_by(copied)[key].indices_a, before.indices_a[[1, 0]])
        assert torch.equal(kept_by(cache)[key].indices_b, before.indices_b)
    copied.reset()
    assert kept_by(copied) == {}


# 3. Nobody else matters


@rule(3)
@pytest.mark.parametrize("side", ["left", "right"])
def test_alone_or_in_a_batch(models, preset, zoo, side):
    model, together = models[preset], batch(zoo, side)
    positions = (together["attention_mask"].cumsum(1) - 1).clamp_min(0)
    mixed = logits(model, together, position_ids=positions)
    for row, each in enumerate(zoo):
        alone = logits(model, batch([each]))[0]
        torch.testing.assert_close(attended(mixed, together, row), alone, **CLOSE)


@rule(3)
def test_generation_alone_or_in_a_batch(models, preset, zoo):
    together = models[preset].generate(**prompts(zoo), **GREEDY)
    for row, each in enumerate(zoo):
        alone = models[preset].generate(**prompts([each]), **GREEDY)
        assert torch.equal(alone[0, -5:], together[row, -5:])


@rule(3)
def test_packed_into_one_row_or_apart(models, preset, zoo):
    model, together = models[preset], packed(zoo)
    with record_routing(model) as seen, torch.no_grad():
        mixed = model(**together, use_cache=False).logits[0]
    at = 0
    for number, each in enumerate(zoo):
        alone = selected(model, batch([each]))
        here = mixed[at : at + len(each["ids"])]
        torch.testing.assert_close(here, logits(model, batch([each]))[0], **CLOSE)
        if preset in INSTANCE:
            assert seen.prompt_lengths[number] == alone.prompt_lengths[0]
            for name, routed in alone.selections.items():
                assert torch.equal(seen.selections[name].indices_b[number], routed.indices_b[0])
        at += len(each["ids"])


@rule(3)
def test_packed_into_one_row_or_apart_in_gradients(preset, zoo):
    model = adapted(preset, router_aux_loss_coef=0.0).train()
    found = []
    for batches in ([packed(zoo)], [batch([each]) for each in zoo]):
        model.zero_grad()
        for one in batches:
            output = model(**one, use_cache=False)
            kept = one["labels"][0, 1:] != -100
            torch.nn.functional.cross_entropy(
                output.logits[0, :-1][kept], one["labels"][0, 1:][kept], reduction="sum"
            ).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 20
    for name, value in found[1].items():
        torch.testing.assert_close(found[0][name], value, **CLOSE)


# 4. Chosen once per forward


def gradients(model, batches, scale=0.1):
    """Gradients of all adapter parameters after forwards over all batches and then one backward."""
    model.train()
    model.zero_grad()
    losses = []
    for found in batches:
        losses.append(model(**found).loss)
        extra = auxiliary_loss(model)
        losses += [] if extra is None else [extra * scale]
    torch.stack(losses).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@rule(4)
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("over", ["batch", "sample"])
def test_checkpointing_changes_nothing(preset, zoo, over, reentrant):
    """Two forwards before one backward, the auxiliary loss in it."""
    model = adapted(preset, router_aux_loss_coef=0.1, router_aux_loss_scope=over)
    batches = [batch(zoo[:2]), batch(zoo[2:])]
    expected = gradients(model, batches)
    without = gradients(model, batches, scale=0.0)
    checkpoint_activations(model.get_base_model(), reentrant=reentrant)
    model.enable_input_require_grads()
    with record_routing(model) as seen:
        found = gradients(model, batches)
    assert found.keys() == expected.keys() and len(found) > 20
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **CLOSE)
    moved = [name for name, value in expected.items() if not torch.allclose(value, without[name], **CLOSE)]
    assert bool(moved) == (preset != "lora") and all("_router_A" in name for name in moved)
    assert len(seen.forwards) == (0 if preset == "lora" else 2)


@rule(4)
def test_an_auxiliary_loss_left_out_of_the_loss_changes_nothing(preset, zoo):
    model = adapted(preset, router_aux_loss_coef=0.1, router_aux_loss_scope="batch")
    expected = gradients(model, [batch(zoo)], scale=0.0)
    checkpoint_activations(model.get_base_model(), reentrant=True)
    model.enable_input_require_grads()
    model.zero_grad()
    model.train()(**batch(zoo)).loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, value in expected.items():
        if found[name] is None:  # a router that only the auxiliary loss reaches
            assert not value.any() and "_router_A" in name
        else:
            torch.testing.assert_close(found[name], value, **CLOSE)


@rule(4)
def test_an_auxiliary_loss_apart_from_the_task_loss_is_refused_where_it_would_be_lost(preset, zoo):
    if preset in ("lora", "llava-mole-released"):
        return  # nothing is balanced; a released loss is refused at once
    for first, second in ((0, 1), (1, 0)):
        model = adapted(preset, router_aux_loss_coef=0.1).train()
        checkpoint_activations(model.get_base_model(), reentrant=True)
        model.enable_input_require_grads()
        losses = [model(**batch(zoo)).loss, auxiliary_loss(model)]
        with pytest.raises(ValueError, match="go backward once"):
            losses[first].backward()
            losses[second].backward()


# 5. Routers learn


@rule(5)
def test_every_router_learns_from_the_second_step_on(preset, zoo):
    torch.manual_seed(0)
    model = get_peft_model(tiny_llava()[0], config(preset, router_aux_loss_coef=0.0)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        model(**batch(zoo)).loss.backward()
        dead = dead_routers(model)
        optimizer.step()
        assert len(dead) == (len(router_parameters(model)) if step == 0 else 0)


# 6. Fresh = base, disabled = base, saved and loaded = the same bits


@rule(6)
def test_fresh_and_disabled_are_the_base(preset, zoo):
    base, _ = tiny_llava()
    expected = logits(base, batch(zoo))
    model = get_peft_model(base, config(preset)).eval()
    assert torch.equal(logits(model, batch(zoo)), expected)
    randomise(model)
    assert not torch.equal(logits(model, batch(zoo)), expected)
    with model.disable_adapter():
        assert torch.equal(logits(model, batch(zoo)), expected)
    assert torch.equal(logits(model.unload(), batch(zoo)), expected)


@rule(6)
def test_saved_and_loaded_are_the_same_bits(models, preset, zoo, tmp_path):
    from peft import PeftModel

    model = models[preset]
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_llava()[0], tmp_path).eval()
    assert torch.equal(logits(loaded, batch(zoo)), logits(model, batch(zoo)))
    state = {name: value for name, value in model.state_dict().items() if ".mixture_" in name}
    written = load_file(tmp_path / "adapter_model.safetensors")
    assert len(written) == len(state)
    for name, value in state.items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert torch.equal(written[name.replace(".default", "")], value)


# 7. No globals


@rule(7)
def test_nothing_is_left_after_a_forward_or_an_exception(preset, zoo):
    model = adapted(preset)
    hooks = ModelHooks.find(model)
    logits(model, batch(zoo))
    assert hooks.holder.scope is None
    broken = batch(zoo)
    broken["input_ids"] = broken["input_ids"].clamp_max(0)  # no image token is left for the pictures
    with pytest.raises(ValueError):
        logits(model, broken)
    assert hooks.holder.scope is None
    with pytest.raises(ValueError):
        model.generate(**{**prompts(zoo), "input_ids": prompts(zoo)["input_ids"] * 0}, **GREEDY)
    assert hooks.holder.scope is None and hooks.generation is None


@rule(7)
def test_copies_do_not_share_a_scope(preset, zoo):
    model = adapted(preset)
    copied = copy.deepcopy(model)
    randomise(copied, seed=5)
    before = logits(model, batch(zoo))
    assert ModelHooks.find(copied).holder is not ModelHooks.find(model).holder
    assert not torch.equal(logits(copied, batch(zoo)), before)
    assert torch.equal(logits(model, batch(zoo)), before)
    assert all(layer.holder is ModelHooks.find(copied).holder for layer in ModelHooks.find(copied).layers)
    assert torch.equal(
        copied.generate(**prompts(zoo), **GREEDY), copy.deepcopy(copied).generate(**prompts(zoo), **GREEDY)
    )


# Compiled, the same numbers from as many graphs as the bare model needs


def compiled(model):
    """`model` compiled without a code generator, and a list that grows by one for every graph."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    return torch.compile(model, backend=backend), graphs


def prompt_and_three_steps(model, found):
    mask, steps = found["attention_mask"], []
    with torch.no_grad():
        out = model(**found, use_cache=True)
        for word in range(20, 23):
            steps.append(out.logits[:, -1])
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            token, cache = torch.full((len(mask), 1), word), out.past_key_values
            out = model(input_ids=token, attention_mask=mask, past_key_values=cache, use_cache=True)
    return torch.stack([*steps, out.logits[:, -1]])


def test_compiled_inference_of_a_mixture_is_one_of_the_bare_model(models, zoo):
    found, counts = prompts(zoo[:2]), []
    for model in (tiny_llava()[0], models["mixlora"]):
        expected = prompt_and_three_steps(model, found)  # what a model keeps after its first call is there for both
        traced, graphs = compiled(model)
        torch.testing.assert_close(prompt_and_three_steps(traced, found), expected, **CLOSE)
        counts.append(len(graphs))
    assert counts[0] == counts[1] > 0
    torch._dynamo.reset()


# What the presets of released code break, they do break: the exclusions are no gaps in the tests


@pytest.mark.parametrize(
    ("preset", "number"), [(preset, number) for preset in BY_DESIGN for number in BY_DESIGN[preset]]
)
def test_rules_broken_by_design_are_broken(models, preset, number, zoo):
    check = {
        1: lambda: test_answers_and_padding_do_not_change_routing(models, preset, zoo),
        2: lambda: test_teacher_forced_equals_step_by_step(models, preset, zoo),
        3: lambda: test_alone_or_in_a_batch(models, preset, zoo, "right"),
        5: lambda: test_every_router_learns_from_the_second_step_on(preset, zoo),
    }[number]
    with pytest.raises(AssertionError):
        check()
