"""Families of vision-language models: what they call the parts that are not the language model. A new one is one row.

A row is needed only where a part has a name that no row has yet: a model that no row knows is searched for all names
there are, and what lies outside its language model is found by asking the model (`outside_language_model`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Family:
    """One way of naming parts.

    model_types: as in the models' configurations. towers, projectors: last parts of the names of the image encoder, and
    of what turns its features into token embeddings; the first one found is the one that training trains or leaves
    alone. tested: versions of transformers in which the rules hold for every model type of the row (tests/test_zoo.py),
    empty if only the names are known. note: what else a user has to know.
    """

    model_types: tuple[str, ...]
    towers: tuple[str, ...] = ("vision_tower",)
    projectors: tuple[str, ...] = ("multi_modal_projector",)
    tested: str = ""
    note: str = ""


_TESTED = "5.20 and 5.23"
_NEWLINE = "image_newline, a vector of its own beside the projector, is not trained"

FAMILIES: tuple[Family, ...] = (
    Family(model_types=("llava", "internvl", "mistral3", "aya_vision"), tested=_TESTED),
    Family(model_types=("llava_next", "llava_onevision"), tested=_TESTED, note=_NEWLINE),
    Family(
        model_types=("paligemma",), tested=_TESTED,
        note="token_type_ids (0 prompt, 1 answer) make the prompt see itself in both directions",
    ),
    Family(
        model_types=("gemma3",), tested=_TESTED,
        note="token_type_ids (1 on image tokens) make a picture's tokens see each other in both directions",
    ),
    Family(
        model_types=("qwen2_vl", "qwen2_5_vl"), towers=("visual",), projectors=("merger",), tested=_TESTED,
        note="the projector is a part of the tower; mm_token_type_ids (1 on image tokens) give positions",
    ),
    Family(
        model_types=("qwen3_vl",), towers=("visual",), projectors=("merger",), tested=_TESTED,
        note="as qwen2_5_vl; deepstack_merger_list, which feeds deeper layers, is not trained",
    ),
    Family(
        model_types=("idefics2", "idefics3", "smolvlm"), towers=("vision_model",), projectors=("connector",),
        tested=_TESTED,
    ),
    # Names alone, read off the other models of transformers.
    Family(model_types=("mllama", "llama4"), towers=("vision_model",)),
    Family(model_types=("deepseek_vl", "janus"), towers=("vision_model",), projectors=("aligner",)),
    Family(
        model_types=("deepseek_vl_hybrid",), towers=("vision_model", "high_res_vision_model"), projectors=("aligner",)
    ),
    Family(
        model_types=("video_llama_3", "hyperclovax_vision_v2"), towers=("vision_model",), projectors=("projector",)
    ),
    Family(model_types=("paddleocr_vl",), towers=("visual",), projectors=("projector",)),
    Family(model_types=("lighton_ocr",), towers=("vision_encoder",), projectors=("vision_projection",)),
    Family(model_types=("video_llava",), towers=("image_tower", "video_tower")),
    Family(model_types=("gemma3n", "gemma4"), towers=("vision_tower", "audio_tower"), projectors=("embed_vision",)),
    Family(model_types=("kimi_k25",), projectors=("mm_projector",)),
    Family(model_types=("ernie4_5_vl_moe",), projectors=("resampler_model",)),
    Family(model_types=("kosmos-2", "kosmos-2.5"), towers=("vision_model",), projectors=("image_to_text_projection",)),
    Family(model_types=("blip-2", "instructblip"), towers=("vision_model", "qformer"),
           projectors=("language_projection",)),
    # Common names outside transformers.
    Family(model_types=(), towers=("vision_backbone", "image_encoder"), projectors=("multimodal_projector", "mlp1")),
)  # fmt: skip

TOWERS = tuple(dict.fromkeys(name for row in FAMILIES for name in row.towers))
PROJECTORS = tuple(dict.fromkeys(name for row in FAMILIES for name in row.projectors))
PICTURE_TOKENS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


def family_of(model: nn.Module) -> Family | None:
    """The row of `model`, by the model type of its configuration; None if there is none."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return next((row for row in FAMILIES if model_type in row.model_types), None)


def vision_tower(model: nn.Module) -> tuple[str, nn.Module]:
    """(name, module) of the image encoder. Raises ValueError, naming what it could be, if no known name is there."""
    row = family_of(model)
    return _find(model, (*(row.towers if row else ()), *TOWERS), "vision tower")


def projector(model: nn.Module) -> tuple[str, nn.Module]:
    """(name, module) of the projector from image features to token embeddings. Raises ValueError as `vision_tower`."""
    row = family_of(model)
    return _find(model, (*(row.projectors if row else ()), *PROJECTORS), "projector")


def picture_tokens(model: nn.Module) -> tuple[int, ...]:
    """Ids of the tokens that stand for parts of pictures and videos, as the model's configuration names them."""
    config = getattr(model, "config", None)
    found = {getattr(config, name, None) for name in PICTURE_TOKENS}
    return tuple(sorted(token for token in found if isinstance(token, int) and token >= 0))


def outside_language_model(model: nn.Module) -> list[str]:
    """Names of the topmost modules that hold no part of the language model or of its output embedding.

    Empty if the model does not say what its language model is (`get_decoder`), or is one and nothing else.
    """
    decoder = getattr(model, "get_decoder", lambda: None)()
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if decoder is None or decoder is model or encodes:
        return []
    kept = {decoder, getattr(model, "get_output_embeddings", lambda: None)()}
    return _without(model, kept, "")


def _without(module: nn.Module, kept: set[nn.Module], prefix: str) -> list[str]:
    names: list[str] = []
    for name, child in module.named_children():
        if child in kept or not any(True for _ in child.parameters()):
            continue
        if kept.isdisjoint(child.modules()):
            names.append(prefix + name)
        else:
            names += _without(child, kept, f"{prefix}{name}.")
    return names


def _find(model: nn.Module, names: tuple[str, ...], what: str) -> tuple[str, nn.Module]:
    """The first module, from the outside in, whose name ends in the first of `names` that is there at all."""
    by_name: dict[str, tuple[str, nn.Module]] = {}
    for path, module in model.named_modules():
        by_name.setdefault(path.rpartition(".")[2], (path, module))
    found = next((by_name[name] for name in names if name in by_name), None)
    if found is not None:
        return found
    outside = outside_language_model(model)
    hint = f"; it may be one of {', '.join(outside)}" if outside else ""
    raise ValueError(
        f"{type(model).__name__} has no {what}: none of its modules is called {', '.join(dict.fromkeys(names))}{hint} "
        "(a row of mixtune.adapters.families says what a model calls its parts)"
    )
