import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from routed import adapted, batch, sample
from tiny import tiny_llava

FILE = "adapter_model.safetensors"
INNER = "model.language_model.layers.1.mlp.up_proj.mixture_router_B"
KEY = f"base_model.model.{INNER}.weight"


def missing(tensors):
    del tensors[KEY]


def unexpected(tensors):
    tensors[KEY.replace("router_B", "router_Q")] = torch.zeros(2)


def misshapen(tensors):
    tensors[KEY] = tensors[KEY][:4].contiguous()


@pytest.fixture
def folder(tmp_path):
    adapted("mixlora").save_pretrained(tmp_path)
    return tmp_path


def spoil(folder, change):
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            missing,
            f"missing: base_model.model.{INNER}.default.weight",
        ),
        (unexpected, "unexpected: base_model.model.model.language_model.layers.1.mlp.up_proj.mixture_router_Q.weight"),
        (misshapen, "mixture_router_B.default.weight: expected [6, 32], found [4, 32]"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(folder, change, message):
    spoil(folder, change)
    with pytest.raises(ValueError) as caught:
        PeftModel.from_pretrained(tiny_llava()[0], folder)
    assert message in str(caught.value)


def test_other_sizes_in_the_settings_are_noticed(folder):
    settings = folder / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"num_factors": 6', '"num_factors": 8'))
    with pytest.raises(ValueError, match=r"mixture_A.default.weight: expected \[8, 32\], found \[6, 32\]"):
        PeftModel.from_pretrained(tiny_llava()[0], folder)


def test_what_transformers_leaves_out_is_noticed_at_the_first_forward(folder):
    spoil(folder, missing)
    model = tiny_llava()[0]
    model.load_adapter(str(folder))
    with pytest.raises(ValueError, match=f"missing: {INNER}.default"):
        model(**batch([sample(0, 9)]))
