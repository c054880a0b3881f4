"""A frozen vision tower that sees pictures a few at a time, and for which stored features can stand.

What a tower makes of a picture may differ in its last bits with the pictures that go through it together: matrix
kernels are chosen by shape. One at a time, a picture's features depend on nothing but the picture.

Letters: N pictures, P image tokens of a picture, F width of the features, C H W of pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mixtune.adapters import families

Layers = tuple[int, ...] | None
LAST: Layers = (-1,)


class TowerError(ValueError):
    """A model whose vision tower does not turn each picture, by itself, into features of its own."""


def layers_read(model: Any) -> Layers:
    """The hidden states that the model reads from its tower (`vision_feature_layer`); None: the last one only."""
    layers = getattr(model.config, "vision_feature_layer", None)
    return (layers,) if isinstance(layers, int) else None if layers is None else tuple(layers)


def read_output(output: Any, layers: Layers) -> Tensor:
    """What a model reads from its tower's output, [N, P, F], hidden states side by side along F."""
    if layers is None or (layers == LAST and output.hidden_states is None):
        return output.last_hidden_state
    return torch.cat([output.hidden_states[layer] for layer in layers], dim=-1)


class TowerByPicture:
    """Takes the place of a tower's `forward`.

    Pixels [N, C, H, W] go through the tower `at_once` at a time. Features [N, P, F] are taken for what the tower made
    of the pictures earlier. The output holds what the model reads, nothing else.
    """

    def __init__(self, tower: nn.Module, layers: Layers, at_once: int):
        self.encode, self.layers, self.at_once = tower.forward, layers, at_once

    def __call__(self, pixel_values: Tensor, **options: Any) -> BaseModelOutputWithPooling:
        """The tower's output for these pictures."""
        features_NPF = pixel_values
        if pixel_values.dim() > 3:
            # Copies, because a part of a batch may lie at an address for which kernels take another path.
            parts = [self.encode(part.clone(), **options) for part in pixel_values.split(self.at_once)]
            features_NPF = torch.cat([read_output(part, self.layers) for part in parts])
        layers = self.layers or ()
        # The model only ever asks for these; those that want the last one ask for it in either way.
        states: Any = dict(zip(layers, features_NPF.chunk(max(len(layers), 1), dim=-1), strict=False))
        last = features_NPF if self.layers in (None, LAST) else None
        return BaseModelOutputWithPooling(last_hidden_state=last, hidden_states=states or None)


def split_tower(model: Any, at_once: int) -> None:
    """Let the tower of `model` see `at_once` pictures at a time, and take stored features. See `join_tower`."""
    join_tower(model)
    tower: Any = families.vision_tower(model)[1]
    tower.forward = TowerByPicture(tower, layers_read(_base(model)), at_once)


def join_tower(model: Any) -> None:
    """Undo `split_tower`."""
    families.vision_tower(model)[1].__dict__.pop("forward", None)


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def picture_features(model: Any, pixels: Tensor) -> Tensor:
    """[N, P, F]: what the model reads from its tower, put into eval mode, for these pictures, all at once."""
    inner, seen = _base(model), []
    tower = families.vision_tower(inner)[1].eval()
    handle = tower.register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        inner.get_image_features(pixel_values=pixels)
    finally:
        handle.remove()
    return read_output(seen[0], layers_read(inner))


@torch.no_grad()
def check_tower(model: Any, pictures: dict[str, Tensor]) -> Tensor:
    """The features [1, P, F] of one picture, `pictures` as its processor gives it, if they can stand for it.

    Raises TowerError if the tower trains, if the processor gives more than one [C, H, W] for a picture, or if the model
    does not come to the same image tokens, bit for bit, from the features as from the pixels.
    """
    inner, dtype = _base(model), next(families.vision_tower(model)[1].parameters()).dtype
    if any(weight.requires_grad for weight in families.vision_tower(model)[1].parameters()):
        raise TowerError("the vision tower trains, so what it makes of a picture changes with every step")
    shapes = {name: tuple(value.shape) for name, value in pictures.items()}
    if list(shapes) != ["pixel_values"] or len(shapes["pixel_values"]) != 4 or shapes["pixel_values"][0] != 1:
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise TowerError(
            f"{type(inner).__name__} takes {given} for one picture; features can be kept only of models that take "
            "pixel_values (1, C, H, W), such as LLaVA-1.5, PaliGemma and Gemma 3"
        )
    pixels = pictures["pixel_values"].to(next(inner.parameters()).device).to(dtype)
    try:
        features = picture_features(inner, pixels)
        told_apart = features.dim() == 3 and len(features) == 1 and features.dtype == dtype
        exact = told_apart and _same_tokens(inner, pixels, features)
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
        raise TowerError(f"{type(inner).__name__} reads its tower in a way of its own ({error})") from error
    if not exact:
        raise TowerError(f"{type(inner).__name__} reads more of its tower's output than one [P, F] for each picture")
    return features


def _same_tokens(inner: Any, pixels: Tensor, features: Tensor) -> bool:
    """Whether image tokens made from stored features are those made from pixels."""
    from_pixels = torch.cat(list(inner.get_image_features(pixel_values=pixels).pooler_output))
    split_tower(inner, 1)
    try:
        from_features = torch.cat(list(inner.get_image_features(pixel_values=features).pooler_output))
    finally:
        join_tower(inner)
    return torch.equal(from_pixels, from_features)
