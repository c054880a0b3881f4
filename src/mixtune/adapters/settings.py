"""`MixtureConfig`: what an adapter is, as peft writes it to and reads it from adapter_config.json."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from peft import PeftConfig

from mixtune.adapters.fields import check_fields
from mixtune.adapters.groups import ROUTER_SCOPES
from mixtune.adapters.presets import PRESETS, RELEASED_FLAGS, Preset
from mixtune.config import near
from mixtune.routing.cores import CONDITIONALS
from mixtune.routing.gates import GATES

CHOICES: dict[str, tuple[str, ...]] = {
    "context": ("instance", "token", "none"),
    "router": ("conditional", "linear", "none"),
    "conditional": CONDITIONALS,
    "gate": tuple(GATES),
    "pooling": ("prompt", "text", "all"),
    "dense": ("never", "inference", "always"),
    "router_scope": ROUTER_SCOPES,
    "router_aux_loss_scope": ("batch", "sample", "released"),
}


class MixtureType(str, Enum):
    """The name of this method among peft's methods. Name and value are equal, so that it is found as a plain string."""

    MIXTURE = "MIXTURE"


def of_preset() -> Any:
    """A field that the preset's row fills in if it is not given."""
    return field(default=None)


@dataclass
class MixtureConfig(PeftConfig):
    """Settings of one adapter: y = W x + s·B·M·A x in every target linear (METHODS section 0).

    `preset` names a row of `PRESETS`; every other field left at None is taken from that row. After construction all
    fields hold the values in force, except `scaling`, where None means lora_alpha / r (see `scale`).

    r: slots chosen by a conditional router, rank of an expert, or rank of the plain LoRA.
    num_factors (conditional) or num_experts (linear): E, how many there are to choose from; top_k experts are chosen.
    context: what is routed, "instance", "token" or "none". router: "conditional", "linear" or "none" (plain LoRA).
    conditional, gate, ifs_weight: see `mixtune.routing.cores.ConditionalOptions`; conditional may also be one of the
    released code's flags "input", "input_lora_a_param", "input_lora_a_choice". dense: when all experts are used,
    weighted by their probability ("never", "inference", "always"). pooling: an instance is read on its "prompt", on
    the "text" of it (without the positions of pictures), or on "all" positions. keep_selection: the prompt's selection
    holds for the answer (False needs pooling "all").
    router_center: an instance's router reads its pooled prompt less the mean prompt, which `center_routers` finds.
    router_trainable False freezes the routers; random_routing draws selections instead (control). router_scope: one
    router for each "linear", "input" (linears that read the same: q, k, v; gate, up), "mlp" or decoder "layer"; the
    first linear of the group owns it, reads its input and conditions on its bank.
    router_aux_loss_coef weights the balance loss; router_aux_loss_scope says over what it is formed: one layer and the
    "batch"; one layer and each "sample", which adds up over micro-batches (samples weighted by their supervised
    labels); or as "released" (METHODS M3).
    target_modules: "all-linear", names or a regular expression; exclude_modules: the same, by default all that is
    not the language model, and [] for nothing. mixture_modules: regular expression of the targets that get the
    mixture, the others get plain LoRA; None means all. init_weights False makes B random too.
    base_shapes is written by mixtune: the shapes the adapter was made for, checked when it is loaded.

    Raises ValueError naming the field, its value and the rule it breaks.
    """

    preset: str = "mixlora"
    r: int = of_preset()
    lora_alpha: float = of_preset()
    scaling: float | None = None
    lora_dropout: float = of_preset()
    num_factors: int = of_preset()
    num_experts: int = of_preset()
    top_k: int = of_preset()
    context: str = of_preset()
    router: str = of_preset()
    conditional: str = of_preset()
    gate: str = of_preset()
    ifs_weight: float = 1.0
    pooling: str = of_preset()
    keep_selection: bool = of_preset()
    dense: str = of_preset()
    router_trainable: bool = of_preset()
    random_routing: bool = of_preset()
    router_bias: bool = of_preset()
    router_center: bool = of_preset()
    router_scope: str = of_preset()
    router_aux_loss_coef: float = of_preset()
    router_aux_loss_scope: str = of_preset()
    target_modules: list[str] | str = "all-linear"
    exclude_modules: list[str] | str | None = None
    mixture_modules: str | None = of_preset()
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    init_weights: bool = True
    base_shapes: dict[str, list[list[int]]] | None = None

    def __new__(cls, *args: Any, **given: Any) -> MixtureConfig:
        """Raises ValueError for a field that does not exist. Without a value peft leaves it out, with a warning."""
        known = [each.name for each in fields(cls)]
        for name, value in given.items():
            if name not in known and value not in (None, False, "", [], {}):
                raise ValueError(
                    f"{name}: no such field, but it is set to {value!r}{near(name, known)} (an adapter_config.json "
                    "that has it was written by a newer version, or for another method)"
                )
        return super().__new__(cls)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any) -> Any:
        """The settings in a folder's adapter_config.json; see `PeftConfig`. They remember the folder."""
        config = super().from_pretrained(pretrained_model_name_or_path, subfolder, **kwargs)
        folder = Path(pretrained_model_name_or_path, subfolder or "")
        if isinstance(config, MixtureConfig) and folder.is_dir():
            config._folder = folder
        return config

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = MixtureType.MIXTURE
        check_fields({each.name: getattr(self, each.name) for each in fields(self)})
        if self.preset not in PRESETS:
            raise ValueError(f"preset: {self.preset!r} is unknown{near(self.preset, PRESETS)}")
        # A config read from a file states the base it was made for; peft fills in a fresh one while it adapts a model.
        self._made_for_a_base = self.base_shapes is not None
        self._folder: Path | None = None
        self._fill_in(PRESETS[self.preset])
        self._check()

    @property
    def scale(self) -> float:
        """Factor s in y = W x + s·B·M·A x."""
        return float(self.scaling if self.scaling is not None else self.lora_alpha / self.r)

    @property
    def size(self) -> int:
        """E: factors or experts to choose from; 1 for plain LoRA."""
        return {"conditional": self.num_factors, "linear": self.num_experts, "none": 1}[self.router]

    @property
    def routers_learn(self) -> bool:
        """Whether any gradient can reach the routers: from a gate or from the balance loss."""
        return bool(
            self.router_trainable
            and not self.random_routing
            and (self.gate != "none" or self.dense == "always" or self.router_aux_loss_coef)
        )

    def _fill_in(self, preset: Preset) -> None:
        for each in fields(Preset):
            if hasattr(self, each.name) and getattr(self, each.name) is None:
                setattr(self, each.name, getattr(preset, each.name))
        self.conditional = RELEASED_FLAGS.get(self.conditional, self.conditional)
        if self.lora_alpha is None and self.router in CHOICES["router"]:
            self.lora_alpha = preset.alpha_per_r * self.r + preset.alpha_per_factor * self.size
        if self.target_modules is None:
            self.target_modules = "all-linear"
        if isinstance(self.target_modules, tuple):
            self.target_modules = list(self.target_modules)

    def _check(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: {getattr(self, name)!r} is unknown{near(getattr(self, name), choices)}")
        self._check_numbers()
        if (self.router == "none") != (self.context == "none"):
            raise ValueError(f"context: {self.context!r} does not go with router {self.router!r}")
        if self.router == "conditional" and self.context != "instance":
            raise ValueError(f"context: router 'conditional' needs 'instance', got {self.context!r}")
        if self.context == "instance" and not self.keep_selection and self.pooling != "all":
            raise ValueError("keep_selection: False needs pooling 'all'; an answer's tokens are no prompt to pool over")
        if self.router_center and self.context != "instance":
            raise ValueError(f"router_center: needs context 'instance', got {self.context!r}")
        if self.random_routing and self.context != "instance":
            raise ValueError(f"random_routing: needs context 'instance', got {self.context!r}")
        self._check_targets()

    def _check_targets(self) -> None:
        pattern = isinstance(self.target_modules, str) and self.target_modules.lower() != "all-linear"
        if self.layers_to_transform is not None and pattern:
            raise ValueError(
                f"layers_to_transform: does nothing for a pattern; write the layers into {self.target_modules!r}"
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError(f"layers_pattern: {self.layers_pattern!r} does nothing without layers_to_transform")

    def _check_numbers(self) -> None:
        if self.router == "conditional":
            self._at_least_one("num_factors")
            if self.num_factors < self.r:
                raise ValueError(f"num_factors: {self.num_factors} is less than r = {self.r}; E factors must cover r")
        if self.router == "linear":
            self._at_least_one("num_experts")
            self._at_least_one("top_k")
            if self.top_k > self.num_experts:
                raise ValueError(f"top_k: {self.top_k} is more than num_experts = {self.num_experts}")

    def _at_least_one(self, name: str) -> None:
        if getattr(self, name) < 1:
            raise ValueError(f"{name}: must be a whole number of at least 1, got {getattr(self, name)}")
