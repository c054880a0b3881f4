"""The two released layouts: which of their tensors make up each of ours (METHODS sections 1 and 2).

Shape suffixes: D input width, O output width, E factors or experts, R rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixtune.adapters.convert.reading import ReleasedFiles
from mixtune.adapters.convert.settings import ReleasedSettings, Resolved, mixlora_settings, mole_settings
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.plan import LayerPlan

ADAPTER = "default"  # the name under which the converted adapter is built


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of our tensors: the released keys it is made of, the shape each must have, and how they are put together."""

    ours: str
    released: tuple[str, ...]
    shape: tuple[int, ...]
    join: Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One released layout.

    prefix: before `layers.{i}`. marks: keys that this layout has and the other has not. adapter: keys, after the
    prefix, that belong to the adapter rather than to the frozen base. settings: reads the configuration. parts: of
    the linear called `layers.{i}...` in a layer. base: keys under which that linear's frozen weight may be found.
    """

    name: str
    prefix: str
    marks: re.Pattern[str]
    adapter: re.Pattern[str]
    settings: Callable[[ReleasedFiles, ReleasedSettings], Resolved]
    parts: Callable[[str, MixtureLinear, LayerPlan], list[Part]]
    base: Callable[[str], tuple[str, ...]]


def rows(tensors: Sequence[Tensor]) -> Tensor:
    """One below the other."""
    return torch.cat(tuple(tensors))


def columns(tensors: Sequence[Tensor]) -> Tensor:
    """Side by side: experts' B, each [O, R], as one bank [O, E·R]."""
    return torch.cat(tuple(tensors), dim=1)


def turned(tensors: Sequence[Tensor]) -> Tensor:
    """Factors b, each [1, O], as the columns of one bank [O, E]."""
    return torch.cat(tuple(tensors)).t()


MIXLORA_PREFIX = "base_model.model.model."
MOLE_PREFIX = "llm_model.base_model.model.model."


def mixlora_parts(tail: str, layer: MixtureLinear, plan: LayerPlan) -> list[Part]:
    """Factor pools, the selector of A, and that of B with what conditions it."""
    size, d_in, d_out = plan.config.size, layer.in_features, layer.out_features
    start = f"{MIXLORA_PREFIX}{tail}."
    first, second = f"{start}cmoa_selector.", f"{start}cmoa_loarB_extra_selector."
    square = (size, d_in)

    def router(ours: str, released: str, shape: tuple[int, int] = square) -> Part:
        return Part(ours=f"mixture_router_{ours}.weight", released=(f"{released}.weight",), shape=shape, join=rows)

    factors_a = tuple(f"{start}lora_A.default.{number}" for number in range(size))
    factors_b = tuple(f"{start}lora_B.default.{number}" for number in range(size))
    banks = [
        Part(ours="mixture_A.weight", released=factors_a, shape=(1, d_in), join=rows),
        Part(ours="mixture_B.weight", released=factors_b, shape=(1, d_out), join=turned),
        router("A", f"{first}loraA_selector"),
    ]
    if plan.config.conditional == "none":
        return [*banks, router("B", f"{first}loraB_selector")]
    banks.append(router("B", f"{second}loraB_selector"))
    if plan.config.conditional == "released":
        return [*banks, router("AB", f"{second}loraA_param2loraB_selector", (size, plan.config.r * d_in))]
    return [
        *banks,
        router("embed", f"{second}loraA_choice_embed"),
        router("choice", f"{second}loraA_choice2loraB_selector"),
    ]


def mole_parts(tail: str, layer: MixtureLinear, plan: LayerPlan) -> list[Part]:
    """Plain LoRA in attention; in an MLP the experts of each linear, and at its first linear the router of all."""
    r, size, d_in, d_out = plan.config.r, plan.config.size, layer.in_features, layer.out_features
    start = f"{MOLE_PREFIX}{tail}."
    if not plan.mixed:
        plain = {side: (f"{start}lora_{side}.default.weight",) for side in "AB"}
        return [
            Part(ours="mixture_A.weight", released=plain["A"], shape=(r, d_in), join=rows),
            Part(ours="mixture_B.weight", released=plain["B"], shape=(d_out, r), join=rows),
        ]
    mlp, _, linear = f"{MOLE_PREFIX}{tail}".rpartition(".")
    bank = f"{mlp}.moe_{linear.removesuffix('_proj')}"
    experts = {side: tuple(f"{bank}.{number}.lora_{side}" for number in range(size)) for side in "AB"}
    parts = [
        Part(ours="mixture_A.weight", released=experts["A"], shape=(r, d_in), join=rows),
        Part(ours="mixture_B.weight", released=experts["B"], shape=(d_out, r), join=columns),
    ]
    if plan.leader is None:
        for kind, shape in (("weight", (size, d_in)), ("bias", (size,))):
            router = f"{mlp}.router.{kind}"
            parts.append(Part(ours=f"mixture_router_A.{kind}", released=(router,), shape=shape, join=rows))
    return parts


def mixlora_base(tail: str) -> tuple[str, ...]:
    """Where the frozen weight of a linear lies: the released layer is a linear itself; peft's own wrap one."""
    return f"{MIXLORA_PREFIX}{tail}.weight", f"{MIXLORA_PREFIX}{tail}.base_layer.weight"


def mole_base(tail: str) -> tuple[str, ...]:
    """The same for LLaVA-MoLE, which keeps the MLP it replaces."""
    block, _, linear = f"{MOLE_PREFIX}{tail}".rpartition(".")
    return f"{block}.{linear}.weight", f"{block}.{linear}.base_layer.weight", f"{block}.original_module.{linear}.weight"


LAYOUTS = (
    Layout(
        name="Conditional MixLoRA",
        prefix=MIXLORA_PREFIX,
        marks=re.compile(r"\.cmoa_(selector|loarB_extra_selector)\.|\.lora_[AB]\.\d+$"),
        adapter=re.compile(r"\.(lora_|cmoa_)"),
        settings=mixlora_settings,
        parts=mixlora_parts,
        base=mixlora_base,
    ),
    Layout(
        name="LLaVA-MoLE",
        prefix=MOLE_PREFIX,
        marks=re.compile(r"\.mlp\.(router|moe_(gate|up|down))\."),
        adapter=re.compile(r"\.(lora_|moe_|router\.)"),
        settings=mole_settings,
        parts=mole_parts,
        base=mole_base,
    ),
)


def find_layout(names: Iterable[str]) -> Layout:
    """The layout whose marks are among the canonical `names`. Raises ValueError if none or both are."""
    names = list(names)
    marked = {layout.name: [name for name in names if layout.marks.search(name)] for layout in LAYOUTS}
    found = [layout for layout in LAYOUTS if marked[layout.name]]
    if len(found) == 1:
        return found[0]
    if found:
        examples = " and ".join(f"{marked[layout.name][0]} ({layout.name})" for layout in found)
        raise ValueError(f"the files mix two layouts: {examples}; convert one checkpoint at a time")
    some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    known = " or ".join(f"{layout.prefix}layers.0... with {layout.marks.pattern}" for layout in LAYOUTS)
    raise ValueError(f"neither released layout: expected keys like {known}; found {some}")
