"""What one layer does for one adapter, worked out once.

Shape suffixes: B instances, T tokens, D input width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixtune.adapters.groups import router_name
from mixtune.adapters.settings import MixtureConfig
from mixtune.routing.cache import Key
from mixtune.routing.cores import ConditionalOptions
from mixtune.routing.gates import HARD_GATES
from mixtune.routing.scope import RoutingScope

if TYPE_CHECKING:
    from mixtune.adapters.layer import MixtureLinear


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPlan:
    """What one layer does for one adapter.

    name: of the linear in the model. adapter: its name. mixed: False for a plain LoRA. leader: the layer that owns the
    router's parameters, None for the layer itself. number: position among the adapter's layers. beside: the layers
    that are given the same input, this one included.

    Worked out from these once, since every layer reads them in every forward: block, bank rows of
    one factor (1) or expert (its rank); rows of bank A; scale, s of `MixtureConfig`; key of the
    router in the scope and the cache (adapter, and name of the linear or of its group), own_key of
    the linear; instance, whether instances are routed; options, of a conditional router; hard, whether gates are 1
    going forward.
    """

    config: MixtureConfig
    name: str
    adapter: str
    mixed: bool
    number: int = 0
    leader: MixtureLinear | None = None
    beside: list[MixtureLinear] = field(default_factory=list)
    block: int = field(init=False)
    rows: int = field(init=False)
    scale: float = field(init=False)
    key: Key = field(init=False)
    own_key: Key = field(init=False)
    instance: bool = field(init=False)
    options: ConditionalOptions = field(init=False)
    hard: bool = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        block = config.r if self.mixed and config.router == "linear" else 1
        worked_out = {
            "block": block,
            "rows": config.size * block if self.mixed else config.r,
            "scale": config.scale,
            "key": (self.adapter, router_name(self.name, config.router_scope)),
            "own_key": (self.adapter, self.name),
            "instance": self.mixed and config.context == "instance",
            "options": ConditionalOptions(
                r=config.r, conditional=config.conditional, gate=config.gate, ifs_weight=config.ifs_weight
            ),
            "hard": config.gate in HARD_GATES and config.dense == "never",
        }
        for field_name, value in worked_out.items():
            object.__setattr__(self, field_name, value)

    def core_dtype(self, x: Tensor) -> torch.dtype:
        """What a core for the input x is written in: gates of 1 and 0 are what they are in any dtype."""
        return x.dtype if self.hard else torch.promote_types(x.dtype, torch.float32)

    def pooled(self, x_BTD: Tensor, scope: RoutingScope) -> Tensor:
        """The mean of x that instances are routed on, [B, D]; without a graph where the router reads it detached."""
        return scope.pool(x_BTD, over=self.config.pooling, detach=self.hard)
