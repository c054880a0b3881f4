import pytest
import torch
from transformers import GenerationConfig, LogitsProcessor

from mixtune import record_routing
from routed import IMAGE, PRESETS, adapted, batch, prompts, sample
from tiny import tiny_llava

GREEDY = {"do_sample": False, "max_new_tokens": 3, "min_new_tokens": 3, "suppress_tokens": [IMAGE]}


@pytest.fixture(scope="module")
def model():
    return adapted("mixlora")


@pytest.fixture(scope="module")
def found():
    return prompts([sample(0, 9), sample(1, 13)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefill_chunk_size": 4}, "prefill_chunk_size: 4 cannot be used with a mixture"),
        ({"guidance_scale": 1.5}, "guidance_scale: 1.5 cannot be used with a mixture"),
        ({"cache_implementation": "paged"}, "continuous batching"),
        ({"generation_config": GenerationConfig(prefill_chunk_size=8)}, "prefill_chunk_size: 8"),
        ({"prompt_mask": torch.ones(2, 3)}, "prompt_mask: shape (2, 3), expected (2, 13)"),
    ],
)
def test_what_cannot_be_right_is_refused(model, found, options, message):
    with pytest.raises(ValueError) as caught:
        model.generate(**found, **options)
    assert message in str(caught.value)


def test_continuous_batching_is_refused_for_routed_instances_only(model):
    with pytest.raises(ValueError, match="generate_batch: continuous batching"):
        model.get_base_model().generate_batch(inputs=[[1, 2, 3]])


def test_a_cache_filled_without_the_adapter_is_refused(model, found):
    with model.disable_adapter(), torch.no_grad():
        cache = model(**found, use_cache=True).past_key_values
    token = torch.tensor([[9], [10]])
    mask = torch.cat([found["attention_mask"], torch.ones(2, 1, dtype=torch.long)], 1)
    with pytest.raises(ValueError, match="filled without the adapter"), torch.no_grad():
        model(input_ids=token, attention_mask=mask, past_key_values=cache)
    with model.disable_adapter(), torch.no_grad():
        model(input_ids=token, attention_mask=mask, past_key_values=cache)


def test_prompt_mask_given_to_generate_decides(model, found):
    only_picture = torch.zeros_like(found["input_ids"], dtype=torch.bool)
    only_picture[found["input_ids"] == IMAGE] = True
    with record_routing(model) as seen:
        model.generate(**found, prompt_mask=only_picture, task_ids=torch.tensor([3, 1]), **GREEDY)
    assert seen.prompt_lengths.tolist() == [4, 4]
    assert len(seen.forwards) == 1


def test_padding_is_inferred_as_generate_infers_it(model, found):
    without = {key: value for key, value in found.items() if key != "attention_mask"}
    assert torch.equal(model.generate(**without, **GREEDY), model.generate(**found, **GREEDY))
    with record_routing(model) as seen:
        model.generate(**without, **GREEDY)
    assert seen.prompt_lengths.tolist() == [9, 13]


def test_a_second_model_as_assistant(model, found):
    one = {key: value[1:] for key, value in found.items()}
    text = {key: value for key, value in one.items() if key != "pixel_values"}
    text["input_ids"] = text["input_ids"].masked_fill(text["input_ids"] == IMAGE, 20)
    expected = model.generate(**text, **GREEDY)
    assistant = adapted("mixlora", seed=1).get_base_model()
    assert torch.equal(model.generate(**text, **GREEDY, assistant_model=assistant), expected)


def test_plain_generate_of_the_base_is_untouched(found):
    base = tiny_llava()[0]
    expected = base.generate(**found, **GREEDY)
    model = adapted("mixlora")
    with model.disable_adapter():
        assert torch.equal(model.generate(**found, **GREEDY), expected)


def test_embeddings_instead_of_tokens(model):
    text = torch.tensor([[1, 20, 21, 22, 23]])
    embedded = model.get_input_embeddings()(text)
    mask = torch.ones_like(text)
    expected = model.generate(input_ids=text, attention_mask=mask, **GREEDY)
    assert torch.equal(model.generate(inputs_embeds=embedded, attention_mask=mask, **GREEDY), expected[:, 5:])


def test_training_batches_and_generation_choose_alike(model, found):
    with record_routing(model) as trained, torch.no_grad():
        model(**batch([sample(0, 9), sample(1, 13)]))
    with record_routing(model) as generated:
        model.generate(**found, **GREEDY)
    for name, routed in trained.selections.items():
        assert torch.equal(routed.indices_a, generated.selections[name].indices_a)
        assert torch.equal(routed.indices_b, generated.selections[name].indices_b)


class Meanwhile(LogitsProcessor):
    """Runs something else on the model after the first token."""

    def __init__(self, run):
        self.run, self.results = run, []

    def __call__(self, input_ids, scores):
        self.results.append(self.run())
        return scores


def test_other_prompts_in_the_middle_of_generate_are_routed_on_their_own(model, found):
    options = {**GREEDY, "return_dict_in_generate": True, "output_logits": True}
    for other in (prompts([sample(2, 17), sample(3, 15)]), prompts([sample(2, 7)])):

        def forward(other=other):
            with torch.no_grad():
                return model(**other, use_cache=False).logits

        def write(other=other):
            return torch.stack(model.generate(**other, **options).logits)

        for run in (forward, write):
            expected, alone = run(), model.generate(**found, **options)
            meanwhile = Meanwhile(run)
            mixed = model.generate(**found, **options, logits_processor=[meanwhile])
            assert torch.equal(mixed.sequences, alone.sequences)
            assert all(torch.equal(each, expected) for each in meanwhile.results) and len(meanwhile.results) == 3


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_recording_does_not_disturb_generate(preset, options, found):
    recorded = adapted(preset)
    expected = recorded.generate(**found, **GREEDY, **options)
    with record_routing(recorded) as seen:
        assert torch.equal(recorded.generate(**found, **GREEDY, **options), expected)
    assert bool(seen.forwards) == (preset != "lora")
