import pytest
import torch

from mixtune.training.architectures import ARCHITECTURES, build_on_meta, build_twin, find_architecture, known_names


def module_names(model):
    """Names of modules with every layer number replaced by 0."""
    return {".".join("0" if part.isdigit() else part for part in name.split(".")) for name, _ in model.named_modules()}


@pytest.mark.parametrize("key", ARCHITECTURES)
def test_a_twin_has_the_real_models_module_names(key):
    row = ARCHITECTURES[key]
    twin, processor = build_twin(row, torch.bfloat16)
    real = build_on_meta(row.config())
    assert module_names(twin) == module_names(real)
    assert {weight.device.type for weight in real.parameters()} == {"meta"}
    assert twin.dtype == torch.bfloat16
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == twin.config.image_token_id
    assert len(processor.tokenizer) == twin.config.text_config.vocab_size


def test_real_sizes_are_those_of_the_public_checkpoints():
    count = sum(weight.numel() for weight in build_on_meta(ARCHITECTURES["llava-1.5-7b"].config()).parameters())
    assert count == 7_063_427_072
    vision = ARCHITECTURES["llava-v1-7b"].config().vision_config
    assert (vision.image_size // vision.patch_size) ** 2 == 256


def test_models_are_found_by_the_last_part_of_their_name():
    assert find_architecture("llava-hf/llava-1.5-7b-hf") is ARCHITECTURES["llava-1.5-7b"]
    assert find_architecture("/data/models/LLaVA-v1-Vicuna-7B-v1.3-stage1/") is ARCHITECTURES["llava-v1-7b"]
    assert find_architecture("llava-9") is None
    assert len(known_names()) == len(set(known_names()))
