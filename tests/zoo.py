"""Tiny random vision-language models, one a family of transformers, with samples such as their processors would give.

Built in code, in float32, in a fraction of a second each: two language layers 32 wide, a small image encoder. Words are
random; numbers of image tokens are those the model itself turns a picture into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AyaVisionConfig,
    Gemma3Config,
    Idefics2Config,
    Idefics3Config,
    InternVLConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    Mistral3Config,
    PaliGemmaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
    SmolVLMConfig,
)

from mixtune.check import Example

PAD, BOS, EOS, IMAGE, OPEN, CLOSE, VIDEO, FIRST_WORD, VOCABULARY = 0, 1, 2, 3, 4, 5, 6, 8, 64
SIDE, PATCH = 16, 4  # pixels of a picture's side and of a patch's: sixteen patches
Size = tuple[int, int]
SMALL, WIDE = (SIDE, SIDE), (SIDE, 2 * SIDE)
# Words of the prompt, tokens of the answer, sizes of the pictures: of different lengths, one to two pictures, and none.
SAMPLES: tuple[tuple[int, int, tuple[Size, ...]], ...] = (
    (5, 4, (SMALL,)),
    (9, 3, (WIDE, SMALL)),
    (12, 6, ()),
    (3, 5, (WIDE,)),
)

CORE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
TEXT = {**CORE, **TOKENS, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": False}
VISION = {**CORE, "image_size": SIDE, "patch_size": PATCH}
SIGLIP = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False}
QWEN_VISION = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": PATCH,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_TOKENS = {
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": OPEN, "vision_end_token_id": CLOSE
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One family: its configuration, the tensors of some pictures, and what its processor adds for each token.

    pictures: what the image processor gives for pictures of these (height, width). framed: whether image tokens stand
    between two marks. token_types: the name of the per-token tensor that its processor adds, if any; it is 1 on image
    tokens, or, with `suffix`, 1 on the answer.
    """

    config: Callable[[], PreTrainedConfig]
    pictures: Callable[[tuple[Size, ...], torch.Generator], dict[str, Tensor]]
    framed: bool = False
    token_types: str | None = None
    suffix: bool = False


def build(name: str, seed: int = 0) -> PreTrainedModel:
    """The family's model: random, float32, in eval mode, a pure function of `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(ZOO[name].config(), dtype=torch.float32)
        for parameter in model.parameters():  # what starts at one value (norms, biases) would hide mistakes
            parameter.data += 0.1 * torch.randn_like(parameter)
    generation = model.generation_config
    generation.pad_token_id, generation.bos_token_id, generation.eos_token_id = PAD, BOS, EOS
    generation.suppress_tokens = [IMAGE, VIDEO]
    return model.eval()


def examples(name: str, model: PreTrainedModel) -> list[Example]:
    """The samples of SAMPLES, unpadded, for a model made by `build`."""
    return [_example(ZOO[name], model, number) for number in range(len(SAMPLES))]


def _example(kind: Kind, model: PreTrainedModel, number: int) -> Example:
    words, answer, sizes = SAMPLES[number]
    generator = torch.Generator().manual_seed(number)
    pictures = kind.pictures(sizes, generator) if sizes else {}
    ids = [BOS]
    for size in sizes:
        tokens = [IMAGE] * _image_tokens(kind, model, size)
        ids += [OPEN, *tokens, CLOSE] if kind.framed else tokens
    prompt_length = len(ids) + words
    said = torch.randint(FIRST_WORD, VOCABULARY, (words + answer,), generator=generator)
    ids_1T = torch.cat([torch.tensor(ids), said])[None]
    inputs = {"input_ids": ids_1T, **pictures}
    if kind.token_types:
        inputs[kind.token_types] = (ids_1T == IMAGE).long()
        if kind.suffix:
            inputs[kind.token_types] = (torch.arange(ids_1T.shape[1]) >= prompt_length).long()[None]
    return Example(inputs=inputs, prompt_length=prompt_length)


def _image_tokens(kind: Kind, model: PreTrainedModel, size: Size) -> int:
    """Positions that a picture of this size takes: as many as the model makes features of it."""
    with torch.no_grad():
        features = model.get_image_features(**kind.pictures((size,), torch.Generator())).pooler_output
    return sum(each.shape[:-1].numel() for each in features)


def _whole(sizes: tuple[Size, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """One square picture each, whatever its size was."""
    return {"pixel_values": torch.randn(len(sizes), 3, SIDE, SIDE, generator=generator)}


def _parts(sizes: tuple[Size, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """An overview and the squares the picture is cut into, pictures with fewer squares filled up with zeros."""
    counts = [1 + height * width // SIDE**2 for height, width in sizes]
    pixels = torch.randn(len(sizes), max(counts), 3, SIDE, SIDE, generator=generator)
    for row, count in zip(pixels, counts, strict=True):
        row[count:] = 0
    return {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)}


def _sized(sizes: tuple[Size, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """One square picture each, with its size."""
    return {**_whole(sizes, generator), "image_sizes": torch.tensor([[SIDE, SIDE]] * len(sizes))}


def _tiles(sizes: tuple[Size, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """All squares of all pictures of the sample in one row, with a mask of their pixels."""
    count = sum(height * width // SIDE**2 for height, width in sizes)
    pixels = torch.randn(1, count, 3, SIDE, SIDE, generator=generator)
    return {"pixel_values": pixels, "pixel_attention_mask": torch.ones(1, count, SIDE, SIDE, dtype=torch.long)}


def _grids(sizes: tuple[Size, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """The patches of all pictures one after another, each twice as deep as a still picture, and their grids."""
    grids = torch.tensor([[1, height // PATCH, width // PATCH] for height, width in sizes])
    patches = torch.randn(int(grids.prod(1).sum()), 3 * 2 * PATCH * PATCH, generator=generator)
    return {"pixel_values": patches, "image_grid_thw": grids}


def _llava() -> PreTrainedConfig:
    return LlavaConfig(
        vision_config={**VISION, "model_type": "clip_vision_model", "projection_dim": 32},
        text_config={**TEXT, "model_type": "llama"}, image_token_index=IMAGE, vision_feature_layer=-2,
    )  # fmt: skip


def _llava_next() -> PreTrainedConfig:
    return LlavaNextConfig(
        vision_config={**VISION, "model_type": "clip_vision_model", "projection_dim": 32},
        text_config={**TEXT, "model_type": "mistral", "sliding_window": None}, image_token_index=IMAGE,
        vision_feature_layer=-2, image_grid_pinpoints=[list(SMALL), list(WIDE)],
    )  # fmt: skip


def _llava_onevision() -> PreTrainedConfig:
    return LlavaOnevisionConfig(
        vision_config=SIGLIP, text_config={**TEXT, "model_type": "qwen2"}, image_token_index=IMAGE,
        video_token_index=VIDEO, image_grid_pinpoints=[list(SMALL), list(WIDE)],
    )  # fmt: skip


def _mistral3() -> PreTrainedConfig:
    return Mistral3Config(
        vision_config={**VISION, "model_type": "pixtral", "head_dim": 8}, image_token_index=IMAGE,
        text_config={**TEXT, "model_type": "mistral", "sliding_window": None, "head_dim": 8}, spatial_merge_size=2,
    )  # fmt: skip


def _aya_vision() -> PreTrainedConfig:
    return AyaVisionConfig(
        vision_config=SIGLIP, text_config={**TEXT, "model_type": "cohere2", "head_dim": 8, "sliding_window": 8},
        image_token_index=IMAGE, downsample_factor=2, alignment_intermediate_size=32, tie_word_embeddings=False,
    )  # fmt: skip


def _qwen2_vl() -> PreTrainedConfig:
    vision = {key: value for key, value in QWEN_VISION.items() if key not in ("intermediate_size", "out_hidden_size")}
    return Qwen2VLConfig(
        vision_config={**vision, "embed_dim": 32, "mlp_ratio": 2},
        text_config={**TEXT, "rope_parameters": MROPE}, **QWEN_TOKENS,
    )  # fmt: skip


def _qwen2_5_vl() -> PreTrainedConfig:
    return Qwen2_5_VLConfig(
        vision_config={**QWEN_VISION, "window_size": 16, "fullatt_block_indexes": [1]},
        text_config={**TEXT, "rope_parameters": MROPE}, **QWEN_TOKENS,
    )  # fmt: skip


def _qwen3_vl() -> PreTrainedConfig:
    return Qwen3VLConfig(
        vision_config={**QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        text_config={**TEXT, "head_dim": 8, "rope_parameters": MROPE}, **QWEN_TOKENS,
    )  # fmt: skip


def _idefics2() -> PreTrainedConfig:
    resampler = {"resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 4, "num_key_value_heads": 2}
    return Idefics2Config(
        vision_config=VISION, text_config={**TEXT, "model_type": "mistral", "sliding_window": None},
        perceiver_config={**resampler, "resampler_head_dim": 8, "hidden_size": 32}, image_token_id=IMAGE,
    )  # fmt: skip


def _idefics3() -> PreTrainedConfig:
    return Idefics3Config(
        vision_config=VISION, text_config={**TEXT, "model_type": "llama"}, image_token_id=IMAGE, scale_factor=2
    )


def _smolvlm() -> PreTrainedConfig:
    return SmolVLMConfig(
        vision_config=VISION, text_config={**TEXT, "model_type": "llama"}, image_token_id=IMAGE, scale_factor=2
    )


def _internvl() -> PreTrainedConfig:
    return InternVLConfig(
        vision_config=VISION, text_config={**TEXT, "model_type": "qwen2"}, image_token_id=IMAGE, image_seq_length=4,
        tie_word_embeddings=False,
    )  # fmt: skip


def _paligemma() -> PreTrainedConfig:
    return PaliGemmaConfig(
        vision_config=SIGLIP, text_config={**TEXT, "model_type": "gemma", "head_dim": 8}, image_token_index=IMAGE,
        projection_dim=32, hidden_size=32, vocab_size=VOCABULARY, tie_word_embeddings=False,
    )  # fmt: skip


def _gemma3() -> PreTrainedConfig:
    text = {**TEXT, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
    return Gemma3Config(
        vision_config=SIGLIP, text_config={**text, "layer_types": ["sliding_attention", "full_attention"]},
        image_token_index=IMAGE, boi_token_index=OPEN, eoi_token_index=CLOSE, mm_tokens_per_image=4,
        tie_word_embeddings=False,
    )  # fmt: skip


ZOO: dict[str, Kind] = {
    "llava": Kind(config=_llava, pictures=_whole),
    "llava_next": Kind(config=_llava_next, pictures=_parts),
    "llava_onevision": Kind(config=_llava_onevision, pictures=_parts),
    "mistral3": Kind(config=_mistral3, pictures=_sized),
    "aya_vision": Kind(config=_aya_vision, pictures=_whole),
    "qwen2_vl": Kind(config=_qwen2_vl, pictures=_grids, framed=True, token_types="mm_token_type_ids"),
    "qwen2_5_vl": Kind(config=_qwen2_5_vl, pictures=_grids, framed=True, token_types="mm_token_type_ids"),
    "qwen3_vl": Kind(config=_qwen3_vl, pictures=_grids, framed=True, token_types="mm_token_type_ids"),
    "idefics2": Kind(config=_idefics2, pictures=_tiles),
    "idefics3": Kind(config=_idefics3, pictures=_tiles),
    "smolvlm": Kind(config=_smolvlm, pictures=_tiles),
    "internvl": Kind(config=_internvl, pictures=_whole),
    "paligemma": Kind(config=_paligemma, pictures=_whole, token_types="token_type_ids", suffix=True),
    "gemma3": Kind(config=_gemma3, pictures=_whole, framed=True, token_types="token_type_ids"),
}
