"""From the settings of a released checkpoint to a `MixtureConfig` that computes what its code computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mixtune.adapters.convert.reading import SETTINGS_FILE, ReleasedFiles
from mixtune.adapters.presets import RELEASED_FLAGS
from mixtune.adapters.settings import MixtureConfig
from mixtune.config import near

PROJECTOR = "multi_modal_projector"
NAMES = {"n_selected": "r"}  # of the settings file -> ours, where they differ
# Settings under which the released code computes something else than METHODS section 1: value that is read, and what
# any other means.
FIXED: Mapping[str, tuple[Any, str]] = {
    "mix_mm_projector": (False, "the projector is a mixture too"),
    "used_scored_weight": (False, "chosen factors are multiplied by their scores"),
    "independent_rank": (True, "B takes the selection of A"),
    "mix_loraA": (True, "there is one A instead of a pool"),
    "mix_start_layer": (0, "the layers before it carry plain LoRA"),
    "lora_bias": ("none", "biases of the base were trained"),
}


@dataclass(frozen=True, kw_only=True)
class ReleasedSettings:
    """What the files do not say, or what counts instead of what they say; None is "as the files say".

    r: slots (MixLoRA) or rank of an expert (LLaVA-MoLE). The scale is lora_alpha / r. cond_type, ifs_weight: flags of
    the released MixLoRA code. projector False leaves the base its own projector.
    """

    r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    cond_type: str | None = None
    ifs_weight: float | None = None
    projector: bool = True


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The adapter's configuration, and where each of the released settings in it came from."""

    config: MixtureConfig
    settings: dict[str, Any]
    origins: dict[str, str]


def mixlora_settings(files: ReleasedFiles, given: ReleasedSettings) -> Resolved:
    """Conditional MixLoRA: preset "mixlora-released" with the settings of `cmoa_args.bin` or the given ones.

    E is the number of rows of a selector. Raises ValueError for what is neither in the file nor given, for flags that
    cannot be converted, and for values that contradict the tensors.
    """
    said = {NAMES.get(name, name): value for name, value in (files.settings or {}).items()}
    _check_fixed(said)
    settings, origins = _merge(said, given, {"ifs_weight": 1.0, "lora_dropout": 0.05})
    absent = [name for name in ("cond_type", "r", "lora_alpha") if name not in settings]
    if absent:
        why = "is absent" if files.settings is None else "does not say them"
        raise ValueError(f"{', '.join(absent)}: must be given, because {SETTINGS_FILE} {why}")
    settings["num_factors"] = _rows(files, ".cmoa_selector.loraA_selector.weight", "factors")
    origins["num_factors"] = "the tensors"
    if str(said.get("n_experts", settings["num_factors"])) != str(settings["num_factors"]):
        raise ValueError(
            f"n_experts: {SETTINGS_FILE} says {said['n_experts']!r}, the selectors have {settings['num_factors']} rows"
        )
    flag = str(settings["cond_type"])
    if flag not in RELEASED_FLAGS:
        raise ValueError(f"cond_type: {flag!r} cannot be converted{near(flag, RELEASED_FLAGS)}")
    values = {name: value for name, value in settings.items() if name != "cond_type"}
    config = MixtureConfig(preset="mixlora-released", conditional=RELEASED_FLAGS[flag], **values, **_saved(given))
    return Resolved(config=config, settings=settings, origins=origins)


def mole_settings(files: ReleasedFiles, given: ReleasedSettings) -> Resolved:
    """LLaVA-MoLE: preset "llava-mole-released"; number of experts and rank are read off the tensors.

    The release has no settings file: lora_alpha is the published 2r unless given. Raises ValueError for a given r that
    the tensors contradict, and for settings of MixLoRA.
    """
    for name in ("cond_type", "ifs_weight"):
        if getattr(given, name) is not None:
            raise ValueError(f"{name}: {getattr(given, name)!r} is a setting of MixLoRA; this checkpoint is LLaVA-MoLE")
    rank = _rows(files, ".moe_gate.0.lora_A", "ranks")
    if given.r not in (None, rank):
        raise ValueError(f"r: {given.r} was given, the experts' lora_A have {rank} rows")
    settings, origins = _merge({}, given, {"lora_alpha": 2.0 * rank, "lora_dropout": 0.05})
    settings |= {"r": rank, "num_experts": _rows(files, ".mlp.router.weight", "experts")}
    origins |= {"r": "the tensors", "num_experts": "the tensors"}
    config = MixtureConfig(preset="llava-mole-released", **settings, **_saved(given))
    return Resolved(config=config, settings=settings, origins=origins)


def _merge(
    said: Mapping[str, Any], given: ReleasedSettings, published: dict[str, float]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings by name with the place each came from: given, else said by the file, else published."""
    asked = {name: value for name, value in asdict(given).items() if name != "projector" and value is not None}
    settings, origins = {}, {}
    for values, origin in ((published, "published"), (said, SETTINGS_FILE), (asked, "given")):
        for name in ("r", "lora_alpha", "lora_dropout", "cond_type", "ifs_weight"):
            if values.get(name) is not None:
                settings[name], origins[name] = values[name], origin
    for name, value in settings.items():
        if name != "cond_type" and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
        ):
            raise ValueError(f"{name}: must be a number, got {value!r} ({origins[name]})")
    return settings, origins


def _check_fixed(said: Mapping[str, Any]) -> None:
    for name, (value, meaning) in FIXED.items():
        found = said.get(name, value)
        if type(found) is not type(value) or found != value:
            raise ValueError(f"{name}: {found!r} cannot be converted ({meaning}); only {value!r} is")


def _rows(files: ReleasedFiles, ending: str, what: str) -> int:
    found = next((tensor for name, tensor in files.tensors.items() if name.endswith(ending)), None)
    if found is None:
        raise ValueError(f"missing: no tensor is called ...{ending}, so the number of {what} is unknown")
    return len(found)


def _saved(given: ReleasedSettings) -> dict[str, Any]:
    return {"modules_to_save": [PROJECTOR]} if given.projector else {}
