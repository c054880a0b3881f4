"""An adapter is loaded whole or not at all: missing, unexpected and misshapen tensors are errors that name them.

peft hands over the tensors it read (`check_tensors`). transformers does not, and only warns about a tensor that the
file lacks; so parameters that a file is about to supply are marked (`await_tensors`) and looked at when the model is
first called (`check_loaded`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from peft.tuners.tuners_utils import _filter_state_dict_by_key_prefixes, _get_tuner_state_dict_key_prefixes
from peft.utils import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, ModulesToSaveWrapper
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.plan import LayerPlan
from mixtune.adapters.settings import MixtureConfig

PEFT_PREFIX = "base_model.model."
SHOWN = 8  # lines of an error
AWAITED = "_mixtune_awaited"  # attribute of a parameter: its version when it was made, before a file was read


def check_file(model: nn.Module, adapter: str, config: MixtureConfig) -> None:
    """Look into the folder that `config` was read from, before peft reads the tensors in it.

    Raises ValueError if the weights are absent (and needed for inference) or damaged, or if a tensor of a module of
    `modules_to_save` is missing, where peft stops with a bare KeyError.
    """
    folder = config._folder
    if folder is None:
        return
    path = folder / SAFETENSORS_WEIGHTS_NAME
    if not path.exists():
        # peft reads a .bin with torch.load(weights_only=True), which runs no code.
        if config.inference_mode and not (folder / WEIGHTS_NAME).exists():
            raise ValueError(f"adapter {adapter!r}: {folder} has settings, but no {SAFETENSORS_WEIGHTS_NAME}")
        return
    try:
        with safe_open(path, framework="pt") as file:
            present = set(file.keys())
    except SafetensorError as error:
        raise ValueError(f"adapter {adapter!r}: {path} is damaged ({error}); copy it again") from None
    missing = [key for key in _saved_modules(model, adapter) if PEFT_PREFIX + key not in present]
    if missing and MixtureConfig.from_pretrained(str(folder)).modules_to_save == config.modules_to_save:
        _refuse(adapter, [f"missing: {PEFT_PREFIX}{key}" for key in missing])


def check_tensors(model: nn.Module, adapter: str, tensors: Mapping[str, Tensor]) -> None:
    """Compare `tensors`, keyed like the model's state dict, with what `adapter` in `model` needs.

    Raises ValueError that lists what is missing, unexpected, of another shape or not finite, and the settings (E, r)
    that the tensors have if those explain the shapes.
    """
    state = model.state_dict()
    needed = _filter_state_dict_by_key_prefixes(state, _get_tuner_state_dict_key_prefixes(model, adapter_name=adapter))
    given = {_model_key(key, state): tensor for key, tensor in tensors.items()}
    own = {*needed, *_saved_modules(model, adapter).values(), *_embeddings(model)}
    misshapen = [key for key in given if key in own and state[key].shape != given[key].shape]
    wrong = _other_sizes(model, adapter, given) if misshapen else []
    wrong += [f"missing: {key}" for key in needed if key not in given]
    wrong += [f"unexpected: {key}" for key in given if key not in own]
    wrong += [
        f"wrong shape: {key}: expected {list(state[key].shape)}, found {list(given[key].shape)}" for key in misshapen
    ]
    wrong += [f"not finite floating point numbers: {key}" for key in given if not _finite(given[key])]
    if wrong:
        _refuse(adapter, wrong)


def await_tensors(model: nn.Module, adapter: str) -> None:
    """Mark the parameters of `adapter`, which a file is about to supply."""
    for _, parameter in _parameters(model, adapter):
        setattr(parameter, AWAITED, _version(parameter))


@torch.compiler.disable
def check_loaded(model: nn.Module, adapter: str) -> None:
    """Raise ValueError, naming them, if parameters that `await_tensors` marked were never read, or are not finite.

    A loader puts another parameter in the place of a marked one or writes into it. An adapter that trains may also be
    a new one with the settings of a file: then nothing was put in place, and nothing is missing.
    """
    parameters = dict(_parameters(model, adapter))
    unread = [name for name, each in parameters.items() if getattr(each, AWAITED, None) == _version(each)]
    replaced = any(not hasattr(each, AWAITED) for each in parameters.values())
    if unread and (replaced or _for_inference(model, adapter)):
        hint = "" if len(unread) < len(parameters) else "; for a new adapter set inference_mode=False in its config"
        _refuse(adapter, [f"missing: {name}" for name in unread], hint)
    spoiled = [name for name, parameter in parameters.items() if not (parameter.is_meta or _finite(parameter))]
    if spoiled:
        _refuse(adapter, [f"not finite floating point numbers: {name}" for name in spoiled])


def _parameters(model: nn.Module, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of `adapter` by its name in `model`, those of `modules_to_save` too."""
    for path, module in model.named_modules():
        if isinstance(module, (MixtureLinear, ModulesToSaveWrapper)):
            for part in module.adapter_layer_names:
                inner = getattr(module, part)
                for name, parameter in inner[adapter].named_parameters() if adapter in inner else ():
                    yield f"{path}.{part}.{adapter}.{name}", parameter


def _saved_modules(model: nn.Module, adapter: str) -> dict[str, str]:
    """Names of the tensors of `modules_to_save`: in a file -> in `model`."""
    return {
        f"{path}.{key}": f"{path}.{inside}"
        for path, module in model.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
        for key, inside in module.adapter_state_dict_load_map(adapter).items()
    }


def _embeddings(model: nn.Module) -> list[str]:
    """Names of the embeddings' tensors in `model`: peft saves them beside an adapter when they were resized."""
    return [
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) or path.rpartition(".")[2] in EMBEDDING_LAYER_NAMES
        for name in module.state_dict()
    ]


def _other_sizes(model: nn.Module, adapter: str, given: Mapping[str, Tensor]) -> list[str]:
    """What the settings say and what the tensors say, where all tensors say the same."""
    stated: dict[str, int] = {}
    found: dict[str, set[int]] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, MixtureLinear) and adapter in layer.mixture_plan:
            shapes = {part: given.get(f"{path}.{part}.{adapter}.weight") for part in layer.adapter_layer_names}
            sizes = _sizes(layer, layer.mixture_plan[adapter], {k: v.shape for k, v in shapes.items() if v is not None})
            for name, size in sizes.items():
                found.setdefault(name, set()).add(size)
                stated[name] = getattr(layer.mixture_plan[adapter].config, name)
    return [
        f"{name}: the settings say {stated[name]}, the tensors have {next(iter(sizes))}"
        for name, sizes in found.items()
        if len(sizes) == 1 and sizes != {stated[name]}
    ]


def _sizes(layer: MixtureLinear, plan: LayerPlan, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The settings that tensors of these shapes were made with, as far as this layer shows them."""
    if len(shapes.get("mixture_A", ())) != 2:
        return {}
    rows = shapes["mixture_A"][0]
    if not plan.mixed:
        return {"r": rows}
    if plan.config.router == "conditional":
        slots = {"r": shapes["mixture_router_AB"][-1] // layer.in_features} if "mixture_router_AB" in shapes else {}
        return {"num_factors": rows, **slots}
    experts = shapes.get("mixture_router_A", (0,))[0]  # the layers of an MLP have one router between them
    return {"num_experts": experts, "r": rows // experts} if experts else {}


def _for_inference(model: nn.Module, adapter: str) -> bool:
    layers = (module for module in model.modules() if isinstance(module, MixtureLinear))
    return any(adapter in layer.mixture_plan and layer.mixture_plan[adapter].config.inference_mode for layer in layers)


def _version(parameter: nn.Parameter) -> int:
    """Counts the writes into `parameter`; tensors made in torch.inference_mode() do not count."""
    return 0 if parameter.is_inference() else parameter._version


def _finite(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def _model_key(key: str, state: Mapping[str, Tensor]) -> str:
    # Without a PeftModel around it the model's names lack the prefix that files have.
    short = key.removeprefix(PEFT_PREFIX)
    return short if key not in state and short in state else key


def listed(lines: list[str]) -> str:
    """The first `SHOWN` of them one below the other, and how many more there are."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in (*lines[:SHOWN], *more))


def _refuse(adapter: str, lines: list[str], hint: str = "") -> None:
    raise ValueError(f"adapter {adapter!r}: its file does not fit this model and these settings{hint}\n{listed(lines)}")
