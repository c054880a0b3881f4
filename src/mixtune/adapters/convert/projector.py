"""The released projector, LLaVA's `mm_projector`, as the two layers that transformers' LLaVA has.

Shape suffixes: D width of the picture's features, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mixtune.adapters.convert.layouts import Part, rows
from mixtune.adapters.convert.settings import PROJECTOR

OWN = "mm_projector."  # how `canonical` begins a projector's keys
# Released layers -> (their names, the activation between the base's two layers that leaves them as they are).
SINGLE = ({"linear_1": ""}, "linear")
DOUBLE = ({"linear_1": "0.", "linear_2": "2."}, "gelu")


def projector_parts(names: Iterable[str], base_model: PreTrainedModel) -> list[Part]:
    """What the base's projector is made of; `names` are canonical.

    A single linear map [H, D] becomes linear_1, and linear_2 the identity; a two-layer GELU projector has both.
    Raises ValueError if there is no projector or one of another build, or if the base's computes something else.
    """
    found = {name.removeprefix(OWN) for name in names if name.startswith(OWN)}
    if not found:
        raise ValueError(
            f"missing: the projector ({OWN}weight or {OWN}0.weight); projector=False leaves the base its own"
        )
    module = next((each for name, each in base_model.named_modules() if name.rpartition(".")[2] == PROJECTOR), None)
    layers = [getattr(module, name, None) for name in DOUBLE[0]]
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        raise ValueError(f"{type(base_model).__name__}: has no {PROJECTOR} of two linears to hold the projector")
    released, activation = DOUBLE if any(name[0].isdigit() for name in found) else SINGLE
    kinds = [kind for kind in ("weight", "bias") if getattr(layers[0], kind) is not None]
    unknown = found - {f"{place}{kind}" for place in released.values() for kind in kinds}
    if unknown:
        raise ValueError(f"{OWN}{min(unknown)}: has no place in the base's projector of two linears with {kinds}")
    used = base_model.config.projector_hidden_act
    if used != activation:
        raise ValueError(
            f"projector_hidden_act: the base has {used!r} between its projector's layers, this projector needs "
            f"{activation!r}; set it in the base's configuration"
        )
    return [
        _part(ours, released.get(ours), kind, tuple(getattr(layer, kind).shape))
        for ours, layer in zip(DOUBLE[0], layers, strict=True)
        for kind in kinds
    ]


def _part(ours: str, place: str | None, kind: str, shape: tuple[int, ...]) -> Part:
    """One tensor of the base's projector; place None is the layer that a single map does not have."""
    if place is not None:
        return Part(ours=f"{ours}.{kind}", released=(f"{OWN}{place}{kind}",), shape=shape, join=rows)

    def identity(_: Sequence[Tensor]) -> Tensor:
        return torch.eye(shape[0]) if kind == "weight" else torch.zeros(shape)

    return Part(ours=f"{ours}.{kind}", released=(), shape=shape, join=identity)
