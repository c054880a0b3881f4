"""The adapted linears of a model, and which of them an analysis looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from mixtune.adapters.families import outside_language_model
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.plan import LayerPlan
from mixtune.analyse.selections import DEPTHS, layer_place
from mixtune.config import near
from mixtune.routing.gates import HARD_GATES

SIDES = ("A", "B")
KINDS = (MixtureLinear, LoraLinear)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptedLinear:
    """One linear with its banks: y = W x + scale · B·M·A x.

    name: in the base model; depth: number of its layer; linear: last part of the name. bank_a [J, D], bank_b [O, J];
    J = E·block rows. plan: of a mixture's layer; None for a plain peft LoRA, whose core is the identity.
    """

    name: str
    module: Any
    bank_a: nn.Parameter
    bank_b: nn.Parameter
    scale: float
    plan: LayerPlan | None = None

    @property
    def depth(self) -> int:
        """Number of the decoder layer; -1 outside of one."""
        return layer_place(self.name)[0]

    @property
    def linear(self) -> str:
        """Last part of the name."""
        return layer_place(self.name)[1]

    @property
    def block(self) -> int:
        """Bank rows of one factor or expert."""
        return self.plan.block if self.plan else 1

    def bank(self, side: str) -> nn.Parameter:
        """Bank "A" or "B"."""
        return self.bank_a if side == "A" else self.bank_b


def adapted_linears(model: nn.Module) -> list[AdaptedLinear]:
    """The linears of the language model that carry the active adapter, in order: a mixture's, or of peft's plain LoRA.

    Raises ValueError if there are none, if several adapters are active, or for an adapter whose banks get gradient in
    another way too (DoRA; a conditional router whose gate is not hard).
    """
    outside = tuple(f"{name}." for name in outside_language_model(model))
    found = [
        _read(name, module)
        for name, module in model.named_modules()
        if isinstance(module, KINDS) and not name.startswith(outside)
    ]
    if not found:
        raise ValueError(f"{type(model).__name__} carries neither a mixture nor a plain LoRA; name one with --adapter")
    return found


def choose(linears: Sequence[AdaptedLinear], layers: str, kinds: Sequence[str] = ()) -> list[AdaptedLinear]:
    """Those in the chosen layers and of the chosen kinds; `layers` and `kinds` as in `InterferenceSettings`.

    Raises ValueError naming a layer or a kind of linear that is not there.
    """
    depths = {depth for depth, _ in chosen_depths(linears, layers)}
    known = dict.fromkeys(each.linear for each in linears)
    for kind in kinds:
        if kind not in known:
            raise ValueError(f"linears: no adapted linear is called {kind!r}{near(kind, known)}")
    found = [each for each in linears if each.depth in depths and (not kinds or each.linear in kinds)]
    if not found:
        raise ValueError(f"linears: none of {', '.join(kinds)} is adapted in the layers {sorted(depths)}")
    return found


def chosen_depths(linears: Sequence[AdaptedLinear], layers: str) -> list[tuple[int, str]]:
    """(number, name) of the layers that `layers` chooses, each once. Raises ValueError for one that is not there."""
    present = sorted({each.depth for each in linears})
    if layers.strip() == "all":
        return [(depth, _layer(depth)) for depth in present]
    found: dict[int, str] = {}
    for word in (part.strip() for part in layers.split(",")):
        if word in DEPTHS:
            found.setdefault(present[int(DEPTHS[word] * len(present))], word)
        elif word.lstrip("-").isdigit() and int(word) in present:
            found.setdefault(int(word), _layer(int(word)))
        else:
            span = f"{present[0]} to {present[-1]}" if len(present) > 1 else str(present[0])
            raise ValueError(f"layers: {word!r} is none of {', '.join(DEPTHS)}, all, or a number among {span}")
    return sorted(found.items())


def _layer(depth: int) -> str:
    return f"layer {depth}" if depth >= 0 else "outside the layers"


def _read(name: str, module: Any) -> AdaptedLinear:
    name = name.removeprefix("base_model.model.")
    adapters = list(module.active_adapters)
    if isinstance(module, LoraLinear):
        (bank_a, bank_b), scale = _lora_banks(name, module, adapters), module.scaling[adapters[0]]
        return AdaptedLinear(name=name, module=module, bank_a=bank_a, bank_b=bank_b, scale=float(scale))
    adapters = [each for each in adapters if each in module.mixture_plan]
    _check_one(name, adapters)
    plan = module.mixture_plan[adapters[0]]
    config = plan.config
    reads_bank = plan.mixed and config.router == "conditional" and config.conditional in ("published", "released")
    if reads_bank and config.gate not in HARD_GATES:
        raise ValueError(f"{name}: under gate {config.gate!r} bank A has a gradient through its router as well")
    banks = (module.part("mixture_A", plan.adapter).weight, module.part("mixture_B", plan.adapter).weight)
    return AdaptedLinear(name=name, module=module, bank_a=banks[0], bank_b=banks[1], scale=plan.scale, plan=plan)


def _lora_banks(name: str, module: Any, adapters: Sequence[str]) -> tuple[nn.Parameter, nn.Parameter]:
    _check_one(name, adapters)
    adapter = adapters[0]
    if adapter in getattr(module, "lora_variant", {}):
        raise ValueError(f"{name}: only plain LoRA can be analysed, not its variants (DoRA and others)")
    return module.lora_A[adapter].weight, module.lora_B[adapter].weight


def _check_one(name: str, adapters: Sequence[str]) -> None:
    if len(adapters) != 1:
        raise ValueError(f"{name}: {len(adapters)} adapters are active; make one active with set_adapter()")


def bank_key(side: str, linear: AdaptedLinear) -> str:
    """Name of a bank in the files of an analysis."""
    return f"{side}/{linear.name}"


def flat(gradient_BXY: Tensor) -> Tensor:
    """Gradients of one bank as rows, [B, X·Y]."""
    return gradient_BXY.flatten(1)
