"""Well-known models whose files need not be here: their real sizes, and a tiny random twin with the same module names.

`--dry-run` checks a recipe for one of them on any machine: adapter targets and two training steps on the twin,
parameter counts on the real sizes without their weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

IMAGE_SIDE, PATCH = 28, 14  # of the twins: four image tokens a picture
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One model family: the last parts of the names it is known by, its real configuration, its source."""

    names: tuple[str, ...]
    config: Callable[[], LlavaConfig]
    source: str


def _llava(*, image_size: int, positions: int, projector_act: str) -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        image_size=image_size, patch_size=14, projection_dim=768,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=32064, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, max_position_embeddings=positions, rms_norm_eps=1e-5, pad_token_id=32001,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=32000, projector_hidden_act=projector_act,
        vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=(image_size // 14) ** 2,
    )  # fmt: skip


def _llava_1_5() -> LlavaConfig:
    return _llava(image_size=336, positions=4096, projector_act="gelu")


def _llava_v1() -> LlavaConfig:
    # transformers' LLaVA has two projector layers; LLaVA-v1's single linear map is the first of them, with no
    # activation between and the identity as second.
    return _llava(image_size=224, positions=2048, projector_act="linear")


ARCHITECTURES: dict[str, Architecture] = {
    "llava-1.5-7b": Architecture(
        names=("llava-1.5-7b-hf", "llava-v1.5-7b", "llava-1.5-7b-stage1"),
        config=_llava_1_5,
        source="Liu et al. 2023, arXiv 2310.03744: Vicuna-7B-v1.5, CLIP ViT-L/14-336, two-layer projector",
    ),
    "llava-v1-7b": Architecture(
        names=("llava-v1-vicuna-7b-v1.3-stage1", "llava-pretrain-vicuna-7b-v1.3", "llava-7b-v1"),
        config=_llava_v1,
        source="Liu et al. 2023, arXiv 2304.08485: Vicuna-7B-v1.3, CLIP ViT-L/14 at 224 pixels, linear projector",
    ),
}


def find_architecture(name: str) -> Architecture | None:
    """The table's row for a model name or path, by its last part; None if there is none."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    return next((row for key, row in ARCHITECTURES.items() if last in (key, *row.names)), None)


def known_names() -> list[str]:
    """Every name in the table."""
    return [name for key, row in ARCHITECTURES.items() for name in (key, *row.names)]


def build_on_meta(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of `config` with its real shapes and no memory: parameters can be counted, not computed with."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def _twin_tokenizer() -> PreTrainedTokenizerFast:
    letters = [chr(code) for code in range(32, 127)] + ["\n"]
    backend = Tokenizer(models.WordLevel({t: n for n, t in enumerate((*SPECIAL, *letters))}, unk_token="<unk>"))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"], padding_side="right", model_max_length=512,
    )  # fmt: skip


def _shrink(config: LlavaConfig, vocabulary: int) -> LlavaConfig:
    """The same architecture two layers deep and 32 wide: what names modules stays, what sizes them goes."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    described = config.to_dict()
    vision = {**described["vision_config"], **sizes, "projection_dim": 32}
    vision |= {"image_size": IMAGE_SIDE, "patch_size": PATCH}
    text = {**described["text_config"], **sizes, "num_key_value_heads": 4, "head_dim": 8}
    text |= {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**vision), text_config=LlamaConfig(**text),
        image_token_index=SPECIAL.index("<image>"), projector_hidden_act=config.projector_hidden_act,
        vision_feature_layer=config.vision_feature_layer, image_seq_length=(IMAGE_SIDE // PATCH) ** 2,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
    )  # fmt: skip


def build_twin(architecture: Architecture, dtype: torch.dtype) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A tiny random model of the architecture, with the same module names, and a processor that fits it."""
    tokenizer = _twin_tokenizer()
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}, do_convert_rgb=True
    )
    processor = LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=PATCH, chat_template=CHAT_TEMPLATE,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(_shrink(architecture.config(), len(tokenizer)))
    return model.to(dtype).eval(), processor
