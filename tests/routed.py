"""Tiny models with an adapter that does something, and batches for them. Used by the tests of adapters and rules."""

from __future__ import annotations

import torch

from mixtune import MixtureConfig, get_peft_model
from mixtune.adapters import presets
from tiny import VOCABULARY, tiny_llava

PRESETS = tuple(presets.PRESETS)
INSTANCE = tuple(name for name, row in presets.PRESETS.items() if row.context == "instance")
CENTERED = tuple(name for name, row in presets.PRESETS.items() if row.router_center)
FACTORS = {"r": 2, "num_factors": 6, "lora_dropout": 0.0, "scaling": 2.0}
SMALL = {"lora": {"r": 4}, **{name: FACTORS for name, row in presets.PRESETS.items() if row.num_factors}}
EXPERTS = {"r": 3, "lora_dropout": 0.0}

ALL_POSITIONS = "reads answers and padding, and reads again at every decoding step (METHODS D6, D7)"
NO_GATES = "without gates no gradient of the task loss reaches a router (METHODS D1, M2)"
BY_DESIGN = {
    "mixlora-released": {1: ALL_POSITIONS, 2: ALL_POSITIONS, 3: ALL_POSITIONS, 5: NO_GATES},
    "mixlora-published": {5: NO_GATES},
    "llava-mole-released": {5: NO_GATES},
}
"""Rules that a preset breaks because what it reproduces breaks them."""


def keeping(rule: int) -> list[str]:
    """The presets that keep a rule."""
    return [preset for preset in PRESETS if rule not in BY_DESIGN.get(preset, {})]


IMAGE = VOCABULARY.index("<image>")
FIRST_WORD = 8  # after special tokens and roles


def config(preset: str, **changes) -> MixtureConfig:
    """The preset in a size that fits the tiny model."""
    return MixtureConfig(**{"preset": preset, **SMALL.get(preset, EXPERTS), **changes})


def randomise(model: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Give every adapter parameter a value, so that B is not zero and selections differ between samples."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".mixture_" in name:
                width = 1.0 if "_router_" in name else scale
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * width)


def adapted(preset: str, seed: int = 0, **changes):
    """The tiny LLaVA with a randomised adapter of `preset`, in eval mode."""
    model, _ = tiny_llava(seed)
    model = get_peft_model(model, config(preset, **changes))
    randomise(model, seed)
    return model.eval()


def in_bfloat16(model: torch.nn.Module) -> torch.nn.Module:
    """The base in bfloat16, the adapter in float32 as it is."""
    for name, parameter in model.named_parameters():
        if ".mixture_" not in name:
            parameter.data = parameter.data.bfloat16()
    return model


def sample(seed: int, prompt: int, answer: int = 4) -> dict[str, torch.Tensor]:
    """One picture, `prompt` positions of prompt (four of them the picture) and `answer` of answer, without padding."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(FIRST_WORD, len(VOCABULARY), (prompt + answer - 5,), generator=generator)
    ids = torch.cat([torch.tensor([1] + [IMAGE] * 4), words])
    labels = ids.clone()
    labels[:prompt] = -100
    return {"ids": ids, "labels": labels, "pixels": torch.randn(3, 28, 28, generator=generator)}


def batch(samples: list[dict[str, torch.Tensor]], side: str = "right", labels: bool = True) -> dict[str, torch.Tensor]:
    """Samples padded on `side` into the tensors a model takes."""
    longest = max(len(each["ids"]) for each in samples)

    def pad(values: torch.Tensor, fill: int) -> torch.Tensor:
        room = torch.full((longest - len(values),), fill)
        return torch.cat([values, room] if side == "right" else [room, values])

    found = {
        "input_ids": torch.stack([pad(each["ids"], 0) for each in samples]),
        "attention_mask": torch.stack([pad(torch.ones_like(each["ids"]), 0) for each in samples]),
        "pixel_values": torch.stack([each["pixels"] for each in samples]),
    }
    if labels:
        found["labels"] = torch.stack([pad(each["labels"], -100) for each in samples])
    return found


def packed(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Samples side by side in one row, told apart by their positions."""
    return {
        "input_ids": torch.cat([each["ids"] for each in samples])[None],
        "labels": torch.cat([each["labels"] for each in samples])[None],
        "position_ids": torch.cat([torch.arange(len(each["ids"])) for each in samples])[None],
        "pixel_values": torch.stack([each["pixels"] for each in samples]),
    }


def prompts(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The prompts of `samples` alone, left-padded as `generate` wants them."""
    cut = [{**each, "ids": each["ids"][each["labels"] == -100]} for each in samples]
    return batch(cut, side="left", labels=False)


def attended(values: torch.Tensor, found: dict[str, torch.Tensor], row: int) -> torch.Tensor:
    """What `values` holds at the positions of row `row` that are not padding."""
    return values[row][found["attention_mask"][row].bool()]
