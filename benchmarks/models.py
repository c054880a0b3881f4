"""What the arms are made of: one linear, the pocket model's language model, and adapters on copies of them.

Copies share the frozen weights, so that many arms fit into memory side by side and none has them in a better place.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from mixtune import MixtureConfig, get_peft_model
from mixtune.adapters.hooks import ModelHooks

LINEARS = r".*\.(q|k|v|o|gate|up|down)_proj"
ANSWER = 16  # supervised positions at the end of each row


class OneLinear(nn.Module):
    """A model that is one frozen square linear, where a language model has its `up_proj`."""

    def __init__(self, width: int, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.layer = nn.Module()
        self.layer.mlp = nn.Module()
        self.layer.mlp.up_proj = nn.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.requires_grad_(False)

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        """W x for x [B, T, D]."""
        return self.layer.mlp.up_proj(inputs_embeds)


def pocket_language_model(layers: int, vocabulary: int, dtype: torch.dtype, device: str) -> LlamaForCausalLM:
    """A frozen Llama of SmolLM2-135M's sizes with random weights: for time and memory as good as the real ones."""
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=vocabulary, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(device=device, dtype=dtype)
    return model.requires_grad_(False)


def shared_copy(model: nn.Module) -> Any:
    """A copy of `model` to adapt, with the very same parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def with_lora(model: nn.Module, r: int, *, base_dtype: bool = False) -> nn.Module:
    """LoRA by peft on every linear of a copy of `model`: in float32, as peft makes it, or in the base's dtype."""
    config = LoraConfig(r=r, lora_alpha=2 * r, target_modules=LINEARS)
    return get_peft_model(shared_copy(model), config, autocast_adapter_dtype=not base_dtype)


def with_mixture(model: nn.Module, preset: str, **changes: Any) -> nn.Module:
    """One of our presets on every linear of a copy of `model`, without dropout, as the LoRA beside it has none."""
    config = MixtureConfig(**{"preset": preset, "lora_dropout": 0.0, "target_modules": LINEARS, **changes})
    return get_peft_model(shared_copy(model), config)


def prompt_of(model: nn.Module, batch: int, length: int, answer: int, device: str) -> dict[str, Tensor]:
    """The prompt mask for models that route, as keyword arguments; nothing for others, which do not take one."""
    if not is_mixture(model):
        return {}
    mask_BT = torch.ones(batch, length, dtype=torch.bool, device=device)
    mask_BT[:, length - answer :] = False
    return {"prompt_mask": mask_BT}


def is_mixture(model: nn.Module) -> bool:
    """Whether `model` carries an adapter of ours."""
    try:
        ModelHooks.find(model)
    except ValueError:
        return False
    return True


def trained(model: nn.Module) -> list[nn.Parameter]:
    """What the optimizer gets."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the parameters, each once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
