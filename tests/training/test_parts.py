import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mixtune.training.checkpoint import CheckpointError
from mixtune.training.parts import (
    ADAPTER_FILE,
    PROJECTOR_CARD,
    PROJECTOR_FILE,
    RESULT_CARD,
    AlignedProjector,
    base_fingerprint,
    hold_in_float32,
    load_adapter,
    load_projector,
    projector,
    read_tensors,
    vision_tower,
)
from mixtune.training.setup import prepare
from runs import tiny_recipe


def test_the_parts_of_a_model_are_found_by_name(tiny_llava):
    model, _ = tiny_llava()
    assert vision_tower(model) is model.model.vision_tower
    assert projector(model) == ("multi_modal_projector", model.model.multi_modal_projector)
    with pytest.raises(ValueError, match="Sequential has no vision tower"):
        vision_tower(nn.Sequential(nn.Linear(2, 2)))


def test_the_fingerprint_knows_a_base_by_its_weights_not_its_dtype(tiny_llava):
    model, other = tiny_llava()[0], tiny_llava(seed=1)[0]
    mark = base_fingerprint(model)
    assert mark != base_fingerprint(other)
    assert mark == base_fingerprint(model.to(torch.bfloat16))


def test_a_module_held_in_float32_computes_so_between_neighbours():
    module = nn.Linear(4, 4)
    expected = module(torch.ones(2, 4))
    module.to(torch.float32)
    for _ in range(2):  # the second call changes nothing
        hold_in_float32(module, torch.bfloat16)
    output = module(torch.ones(2, 4, dtype=torch.bfloat16))
    assert output.dtype == torch.bfloat16 and module.weight.dtype == torch.float32
    assert torch.equal(output, expected.to(torch.bfloat16))
    assert len(module._forward_hooks) == len(module._forward_pre_hooks) == 1


@pytest.fixture
def saved_adapter(tiny_llava, tmp_path):
    """(folder, prepared): a random adapter on the tiny model, saved as a run saves it."""
    recipe = tiny_recipe(tmp_path / "d.jsonl", tmp_path, adapter={"preset": "mixlora", "init_weights": False})
    prepared = prepare(tiny_llava()[0], recipe)
    folder = tmp_path / "adapter"
    folder.mkdir()
    prepared.trained.save(folder)
    (folder / RESULT_CARD).write_text(json.dumps({"base": "tiny", "base_fingerprint": prepared.fingerprint}))
    return folder, prepared


def test_a_loaded_adapter_computes_what_the_trained_one_does(saved_adapter, tiny_llava):
    folder, prepared = saved_adapter
    ids = torch.arange(5, 15)[None]
    trained = prepared.trained.model.eval()(input_ids=ids).logits
    loaded = load_adapter(tiny_llava()[0], folder)
    assert torch.equal(loaded(input_ids=ids).logits, trained)
    assert not torch.equal(tiny_llava()[0](input_ids=ids).logits, trained)
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_an_adapter_of_another_base_is_refused(saved_adapter, tiny_llava):
    folder, _ = saved_adapter
    with pytest.raises(CheckpointError, match=r"adapter: was trained on base 'tiny' \(fingerprint"):
        load_adapter(tiny_llava(seed=1)[0], folder)


def test_a_folder_without_an_adapter_is_refused(tiny_llava, tmp_path):
    with pytest.raises(CheckpointError, match="holds no adapter"):
        load_adapter(tiny_llava()[0], tmp_path)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_a_file_that_does_not_fit_is_refused_by_its_tensor(saved_adapter, tiny_llava, damage):
    folder, _ = saved_adapter
    state = load_file(folder / ADAPTER_FILE)
    name = sorted(state)[0]
    value = state.pop(name)
    if damage == "unexpected":
        state |= {name: value, "base_model.model.extra.weight": value.clone()}
        name = "base_model.model.extra.weight"
    if damage == "shape":
        state[name] = value[:1].clone()
    save_file(state, folder / ADAPTER_FILE)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_adapter(tiny_llava()[0], folder)


def test_a_projector_comes_back_bit_for_bit_and_only_onto_its_base(tiny_llava, tmp_path):
    model = tiny_llava()[0]
    nn.init.normal_(projector(model)[1].linear_1.weight)
    AlignedProjector(model, "tiny", base_fingerprint(model)).save(tmp_path)
    again = load_projector(tiny_llava()[0], tmp_path)
    for name, value in projector(model)[1].state_dict().items():
        assert torch.equal(value, projector(again)[1].state_dict()[name]), name
    card = json.loads((tmp_path / PROJECTOR_CARD).read_text())
    assert card["base"] == "tiny" and len(card["sha256"]) == 64
    with pytest.raises(CheckpointError, match="was trained on base 'tiny'"):
        load_projector(tiny_llava(seed=1)[0], tmp_path)


def test_a_damaged_projector_is_refused(tiny_llava, tmp_path):
    model = tiny_llava()[0]
    AlignedProjector(model, "tiny", base_fingerprint(model)).save(tmp_path)
    content = bytearray((tmp_path / PROJECTOR_FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / PROJECTOR_FILE).write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_projector(model, tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "adapter_model.safetensors"
    for content in (None, b"\0" * 3000, b"cut"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors: cannot be read"):
            read_tensors(path)
