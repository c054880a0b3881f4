import pytest
import torch

from mixtune.config import ModelSettings
from mixtune.training.loading import MODEL_BUILDERS, ModelError, load_model, local_config, meta_model, placed
from runs import build_tiny


@pytest.fixture
def model_folder(tiny_llava, tmp_path):
    model, processor = tiny_llava()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folder_loads_frozen_in_its_dtype_and_attention(model_folder, tiny_llava, dtype):
    settings = ModelSettings(name_or_path=str(model_folder), dtype=dtype, attn_implementation="eager")
    model, processor = load_model(settings)
    reference = tiny_llava()[0].to(getattr(torch, dtype))
    for (name, value), (_, expected) in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        assert torch.equal(value, expected) and not value.requires_grad, name
    assert not model.training
    assert model.config._attn_implementation == "eager"
    assert processor.tokenizer("red")["input_ids"] == tiny_llava()[1].tokenizer("red")["input_ids"]


def test_shapes_are_known_before_weights_are_loaded(model_folder):
    settings = ModelSettings(name_or_path=str(model_folder))
    assert local_config(settings).text_config.hidden_size == 32
    meta = meta_model(settings)
    assert {weight.device.type for weight in meta.parameters()} == {"meta"}
    assert sum(weight.numel() for weight in meta.parameters()) == sum(
        w.numel() for w in load_model(settings)[0].parameters()
    )
    assert meta_model(ModelSettings(name_or_path="nobody/nothing")) is None
    assert meta_model(ModelSettings(name_or_path="tiny")) is None


def test_built_in_names_come_first(monkeypatch):
    monkeypatch.setitem(MODEL_BUILDERS, "tiny", build_tiny)
    model, _ = load_model(ModelSettings(name_or_path="tiny", dtype="bfloat16"))
    assert model.dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("name", ["no/such-model", "tinny", "."])
def test_a_model_that_cannot_be_loaded_is_named(name):
    with pytest.raises(ModelError, match=rf"model\.name_or_path: '{name}' cannot be loaded") as caught:
        load_model(ModelSettings(name_or_path=name))
    assert ("did you mean 'tiny'?" in str(caught.value)) == (name == "tinny")


@pytest.mark.parametrize("gpu", [True, False])
def test_questions_are_asked_on_the_gpu_where_there_is_one(gpu, monkeypatch):
    model = torch.nn.Linear(1, 1)
    moved = monkeypatch.setattr(model, "to", lambda device: (model, device)) or (model, "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert placed(model) == (moved if gpu else model)
