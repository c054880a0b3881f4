"""What the routers choose, sample by sample, and routers drawn anew."""

import numpy as np
import pytest
import torch

from mixtune.adapters import record_routing
from mixtune.analyse.routing.recording import record_selections, untrained_routers
from mixtune.analyse.subject import model_inputs
from mixtune.check.inputs import own_samples
from mixtune.data import Collator, Encoder
from routed import adapted
from tiny import TASKS, tiny_processor, tiny_samples
from tolerances import TOL


@pytest.fixture
def samples(tmp_path):
    return own_samples(str(tiny_samples(tmp_path, n=7)))


def collator() -> Collator:
    return Collator(Encoder(tiny_processor()), TASKS)


def alone(model, sample):
    """Selections of one prompt by itself."""
    with torch.inference_mode(), record_routing(model) as record:
        model(**model_inputs(model, collator().prompts([sample])), use_cache=False)
    return record.selections


def test_factors_are_counted_as_each_prompt_chose_them_alone(samples) -> None:
    model = adapted("mixlora")
    found = record_selections(model, collator(), samples, batch_size=3)
    assert found.choices.shape == (2, 7, 14, 6) and found.image is None
    assert set(found.sizes) == {6}
    for number, sample in enumerate(samples):
        for layer, routed in enumerate(alone(model, sample).values()):
            for side, indices in enumerate((routed.indices_a, routed.indices_b)):
                assert set(np.flatnonzero(found.choices[side, number, layer])) == set(indices[0].tolist())
                assert found.choices[side, number, layer].sum() == 2


def test_tokens_are_counted_by_kind(samples) -> None:
    model = adapted("llava-mole")
    found = record_selections(model, collator(), samples, batch_size=3)
    image_id = tiny_processor().tokenizer.convert_tokens_to_ids("<image>")
    expected = np.zeros_like(found.image)
    for number, sample in enumerate(samples):
        image_T = collator().prompts([sample])["input_ids"][0] == image_id
        for layer, routed in enumerate(alone(model, sample).values()):
            experts_T = routed.indices_a[0, :, 0]
            counts = torch.bincount(experts_T, minlength=3)
            assert found.choices[0, number, layer].tolist() == counts.tolist()
            expected[layer] += torch.bincount(experts_T[image_T], minlength=3).numpy()
    assert found.choices.shape[0] == 1, "experts have one number for A and B"
    assert (found.image == expected).all()


def test_where_all_experts_are_used_gates_count(samples) -> None:
    model = adapted("llava-mole-released")  # dense when it does not train
    found = record_selections(model, collator(), samples, batch_size=7)
    lengths = [collator().prompts([sample])["input_ids"].shape[1] for sample in samples]
    total_NL = torch.from_numpy(found.choices[0].sum(-1))
    expected = torch.tensor(lengths, dtype=torch.float32)[:, None].expand(total_NL.shape)
    torch.testing.assert_close(total_NL, expected, **TOL[torch.float32])
    assert found.choices.min() > 0


def test_batches_change_nothing(samples) -> None:
    model = adapted("mixlora")
    one, many = (record_selections(model, collator(), samples, batch_size=size) for size in (1, 7))
    assert (one.choices == many.choices).all()
    torch.testing.assert_close(torch.from_numpy(one.entropy), torch.from_numpy(many.entropy), **TOL[torch.float32])


def test_untrained_routers_are_drawn_anew_and_come_back(samples) -> None:
    model = adapted("mixlora")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = record_selections(model, collator(), samples, batch_size=7)
    state = torch.get_rng_state()
    for _ in range(2):
        with untrained_routers(model, seed=3):
            inside = {name: value.clone() for name, value in model.state_dict().items()}
            untrained = record_selections(model, collator(), samples, batch_size=7)
        changed = {name for name in before if not torch.equal(before[name], inside[name])}
        assert changed == {name for name in before if "mixture_router" in name}
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert (trained.choices != untrained.choices).any()


def test_an_adapter_without_router_is_refused(samples) -> None:
    with pytest.raises(ValueError, match="routes nothing"):
        record_selections(adapted("lora"), collator(), samples, batch_size=7)
