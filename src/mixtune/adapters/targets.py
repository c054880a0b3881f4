"""Which linears of a model an adapter goes into, and whether the model is the one it was made for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import SimpleNamespace

from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn

from mixtune.adapters.families import PROJECTORS, TOWERS, outside_language_model
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.settings import MixtureConfig
from mixtune.config import near

EXCLUDED = rf"(.*\.)?({'|'.join((*TOWERS, *PROJECTORS))})(\..*)?"
ALL_LINEAR = "all-linear"


def linear_names(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Shape (out, in) of every linear of `model`, adapted ones counted once, by name."""
    found: dict[str, tuple[int, int]] = {}
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(inside) and inside:
            continue
        if isinstance(module, MixtureLinear):
            inside += (f"{name}.",)
        if isinstance(module, (nn.Linear, MixtureLinear)):
            found[name] = (module.out_features, module.in_features)
    return found


def resolve_targets(config: MixtureConfig, model: nn.Module) -> None:
    """Turn `target_modules` and `exclude_modules` into what peft matches names against; write `base_shapes`.

    "all-linear" becomes the names of the language model's linears, without the output embedding. Raises ValueError for
    a target that matches nothing, for a mixture that would be nowhere, and for a base of other shapes.
    """
    linears = linear_names(model)
    if config.exclude_modules is None:
        config.exclude_modules = _not_the_language_model(model)
    expected = config.base_shapes if config._made_for_a_base else None
    if expected is not None:
        _check_base(config, linears, expected)
    if isinstance(config.target_modules, str) and config.target_modules.lower() == ALL_LINEAR:
        config.target_modules = _all_linear(config, model, linears)
    _check_targets(config, linears)
    _check_saved_modules(config, model)
    matched = [name for name in linears if check_target_module_exists(config, name)]
    config.base_shapes = _shapes((name, linears[name]) for name in matched)
    if config.mixture_modules and not any(re.fullmatch(config.mixture_modules, name) for name in matched):
        raise ValueError(
            f"mixture_modules: {config.mixture_modules!r} matches none of the targets, so nothing is mixed"
        )


def _not_the_language_model(model: nn.Module) -> str | None:
    """Pattern of the modules that are left out by default: those with known names, and others outside the language
    model; None if there are none.
    """
    unknown = [name for name in outside_language_model(model) if not re.fullmatch(EXCLUDED, name)]
    known = any(re.fullmatch(EXCLUDED, name) for name, _ in model.named_modules())
    patterns = [EXCLUDED] * known + [rf"{re.escape(name)}(\..*)?" for name in unknown]
    return "|".join(patterns) or None


def _all_linear(config: MixtureConfig, model: nn.Module, linears: Iterable[str]) -> list[str]:
    """Last parts of the names of all linears that are not excluded, or the full names where those are not enough."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    head = next((name for name, module in model.named_modules() if module is output), None)
    trial = _matching([], config)
    trial.target_modules = sorted({name.rpartition(".")[2] for name in linears})  # a pattern would skip layer numbers
    wanted = [name for name in linears if name != head and check_target_module_exists(trial, name)]
    if not wanted:
        raise ValueError("target_modules: 'all-linear' matches nothing that the other settings do not leave out")
    trial.target_modules = sorted({name.rpartition(".")[2] for name in wanted})
    short = [name for name in linears if check_target_module_exists(trial, name)]
    return trial.target_modules if short == wanted else wanted


def _check_targets(config: MixtureConfig, linears: Iterable[str]) -> None:
    targets = config.target_modules
    for target in [targets] if isinstance(targets, str) else targets:
        one = _matching(targets if isinstance(targets, str) else [target], config)
        if any(check_target_module_exists(one, name) for name in linears):
            continue
        one.exclude_modules = one.layers_to_transform = one.modules_to_save = None
        left_out = sum(bool(check_target_module_exists(one, name)) for name in linears)
        known = dict.fromkeys([*(name.rpartition(".")[2] for name in linears), ALL_LINEAR])
        hint = f" but {left_out} modules that other settings leave out" if left_out else near(target, known)
        raise ValueError(f"target_modules: {target!r} matches nothing{hint}")


def _check_saved_modules(config: MixtureConfig, model: nn.Module) -> None:
    names = [name for name, _ in model.named_modules() if name]
    for target in config.modules_to_save or ():
        if not any(name.endswith(target) for name in names):  # as peft matches them
            known = dict.fromkeys(name.rpartition(".")[2] for name in names if not re.search(r"\.\d+(\.|$)", name))
            raise ValueError(f"modules_to_save: {target!r} matches nothing{near(target, known)}")


def _matching(targets: str | list[str], config: MixtureConfig) -> SimpleNamespace:
    """What peft's matching reads, with other targets."""
    others = ("exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern")
    return SimpleNamespace(target_modules=targets, **{name: getattr(config, name) for name in others})


def _shapes(linears: Iterable[tuple[str, tuple[int, int]]]) -> dict[str, list[list[int]]]:
    """[out, in, how many] of the linears of each name, layer numbers written as *."""
    counts: dict[str, dict[tuple[int, int], int]] = {}
    for name, shape in linears:
        of_name = counts.setdefault(re.sub(r"\.\d+(?=\.|$)", ".*", name), {})
        of_name[shape] = of_name.get(shape, 0) + 1
    return {name: [[*shape, count] for shape, count in of_name.items()] for name, of_name in counts.items()}


def _check_base(
    config: MixtureConfig, linears: dict[str, tuple[int, int]], expected: dict[str, list[list[int]]]
) -> None:
    """Raise ValueError, naming expected and found shapes, unless the model has the linears the adapter was made for."""
    found = _shapes((name, shape) for name, shape in linears.items() if check_target_module_exists(config, name))
    for name, shapes in expected.items():
        if found.get(name) != shapes:
            raise ValueError(
                f"this adapter is for another base (made on {config.base_model_name_or_path or 'an unnamed model'}): "
                f"{name}: expected {_say(shapes)}, found {_say(found.get(name))}"
            )


def _say(shapes: list[list[int]] | None) -> str:
    if not shapes:
        return "none such"
    return ", ".join(f"{count} of [{d_out}, {d_in}]" for d_out, d_in, count in shapes)
