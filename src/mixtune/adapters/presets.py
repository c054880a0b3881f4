"""Presets: each mixture method as one row of data. A field that is not given in `MixtureConfig` comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Modules of feed-forward blocks by the name of the block, as transformers' language models call them.
MLP_LINEARS = r".*\.(mlp|feed_forward|ffn)\.[^.]+"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One method. Fields mean what they mean in `MixtureConfig`; `source` is the paper and the section of METHODS.

    Unless the user sets it, lora_alpha = alpha_per_r * r + alpha_per_factor * (number of factors or experts).
    """

    source: str
    r: int
    alpha_per_r: float = 2.0
    alpha_per_factor: float = 0.0
    lora_dropout: float = 0.0
    num_factors: int = 0
    num_experts: int = 0
    top_k: int = 1
    context: str = "none"
    router: str = "none"
    conditional: str = "none"
    gate: str = "none"
    pooling: str = "prompt"
    keep_selection: bool = True
    dense: str = "never"
    router_trainable: bool = True
    random_routing: bool = False
    router_bias: bool = False
    router_center: bool = False
    router_scope: str = "linear"
    router_aux_loss_coef: float = 0.0
    router_aux_loss_scope: str = "batch"
    mixture_modules: str | None = None


# What the released code of Conditional MixLoRA calls its ways to choose factors b, and what they are here.
RELEASED_FLAGS: Mapping[str, str] = MappingProxyType(
    {"input": "none", "input_lora_a_param": "released", "input_lora_a_choice": "choice"}
)

_CONDITIONAL = "Conditional MixLoRA, arXiv 2402.15896 section 3"
_MOLE = "LLaVA-MoLE, arXiv 2401.16160 section 3"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "lora": Preset(source="LoRA, arXiv 2106.09685; alpha = 2r as in arXiv 2402.15896", r=8),
        "mixlora": Preset(
            source=f"{_CONDITIONAL}, with routers that learn and read the prompt alone (METHODS 1, D1-D7)",
            r=4, num_factors=16, context="instance", router="conditional", conditional="published",
            gate="straight-through",
        ),
        "mixlora-centered": Preset(
            source=f"{_CONDITIONAL}, as mixlora, with routers that read how a prompt differs from the mean prompt",
            r=4, num_factors=16, context="instance", router="conditional", conditional="published",
            gate="straight-through", router_center=True,
        ),
        "mixlora-published": Preset(
            source=f"{_CONDITIONAL}, as written: alpha = 2E, no gates, so routers get no gradient (METHODS 1)",
            r=4, alpha_per_r=0.0, alpha_per_factor=2.0, lora_dropout=0.05, num_factors=16, context="instance",
            router="conditional", conditional="published",
        ),
        "mixlora-released": Preset(
            source="released code of arXiv 2402.15896, flag input_lora_a_param unless `conditional` says "
            "another (METHODS 1, D1-D7)",
            r=4, alpha_per_r=0.0, alpha_per_factor=2.0, lora_dropout=0.05, num_factors=16, context="instance",
            router="conditional", conditional="released", pooling="all", keep_selection=False,
        ),
        "llava-mole": Preset(
            source=f"{_MOLE}, with gates that let the routers learn from the task (METHODS 2, M1-M6)",
            r=32, lora_dropout=0.05, num_experts=3, context="token", router="linear", gate="straight-through",
            router_bias=True, router_scope="mlp", router_aux_loss_coef=1e-2, mixture_modules=MLP_LINEARS,
        ),
        "instruction-mole": Preset(
            source=f"{_MOLE}, its top-1 experts with gates that let routers learn (METHODS 2), but a router for each "
            "linear, chosen once an instance by how the text of its prompt differs from the mean one; no balance loss",
            r=4, num_experts=8, context="instance", router="linear", gate="straight-through", router_bias=True,
            router_center=True, pooling="text",
        ),
        "llava-mole-released": Preset(
            source="released code of arXiv 2401.16160: sparse in training, dense in inference (METHODS 2, M1-M3)",
            r=32, lora_dropout=0.05, num_experts=3, context="token", router="linear", gate="none",
            dense="inference", router_bias=True, router_scope="mlp", router_aux_loss_coef=1e-2,
            router_aux_loss_scope="released", mixture_modules=MLP_LINEARS,
        ),
    }
)  # fmt: skip
