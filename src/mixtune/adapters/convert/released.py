"""`convert_released`: a released checkpoint becomes an adapter folder that peft and mixtune load."""

from __future__ import annotations

import copy
import difflib
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper
from torch import Tensor
from transformers import PreTrainedModel

from mixtune.adapters.convert.conversion import Conversion, reason_left
from mixtune.adapters.convert.layouts import ADAPTER, Layout, Part, find_layout
from mixtune.adapters.convert.projector import projector_parts
from mixtune.adapters.convert.reading import ReleasedFiles, canonical, read_released
from mixtune.adapters.convert.settings import ReleasedSettings
from mixtune.adapters.convert.writing import check_free, write_folder
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.loading import PEFT_PREFIX, SHOWN, listed
from mixtune.adapters.settings import MixtureConfig
from mixtune.config import near

ROUNDING = 0.01  # of the mean weight: bfloat16 rounds by a fifth of that, other weights differ by far more


@dataclass
class Placed:
    """Tensors found so far: ours by their name in the model, the canonical names used for each, and what is wrong."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    used: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


def convert_released(
    source: str | Path,
    base_model: PreTrainedModel,
    out: str | Path,
    given: ReleasedSettings | None = None,
    *,
    base_name: str | None = None,
) -> Conversion:
    """Convert a released checkpoint (METHODS sections 1 and 2) into an adapter for `base_model`, in the folder `out`.

    source: the checkpoint's folder, or one of its files. base_model: the Hugging Face model the adapter is for, also
    on the meta device; it is not changed. base_name: what the adapter's file calls it, by default its name_or_path.
    given: settings that the files lack. The adapter computes what the released code computes, with its projector.
    `out` gets adapter_config.json, adapter_model.safetensors, conversion.json, all at once by one rename.

    Raises ValueError, listing them, for tensors that are missing, misshapen, without a place in the base or other than
    the base's; for files that are refused, absent or of neither layout; for settings that cannot be converted; and if
    `out` holds something.
    """
    source, out, given = Path(source), Path(out), given or ReleasedSettings()
    check_free(out)
    files = read_released(source)
    layout = find_layout(files.tensors)
    resolved = layout.settings(files, given)
    twin = adapted_twin(base_model, resolved.config)
    checked, mistakes = _check_base(twin, base_model, files, layout)
    parts = [*_layer_parts(twin, layout), *(_projector(twin, files, base_model) if given.projector else ())]
    placed = _place(parts, files, layout)
    used = {name for names in placed.used.values() for name in names}
    spare = [name for name in files.tensors if name not in used and name not in checked]
    mistakes += [
        f"no place: {files.keys[name]}: the base has no linear for it, or the settings have no use for it"
        for name in spare
        if layout.adapter.search(name)
    ]
    mistakes += placed.mistakes
    if mistakes:
        raise ValueError(f"{source} ({layout.name}) cannot be converted for this base\n{listed(mistakes)}")
    base = base_name or str(base_model.name_or_path)
    conversion = Conversion(
        folder=out, layout=layout.name, preset=resolved.config.preset, base=base,
        settings=resolved.settings, origins=resolved.origins,
        used={_in_file(ours): tuple(files.keys[name] for name in names) for ours, names in placed.used.items()},
        checked={files.keys[name]: how for name, how in checked.items()},
        left_over={**{files.keys[name]: reason_left(name) for name in spare}, **files.left_over},
        read=files.read, not_read=files.not_read,
    )  # fmt: skip
    twin.peft_config[ADAPTER].base_model_name_or_path = base
    write_folder(out, twin, placed.tensors, conversion)
    return conversion


def adapted_twin(base_model: PreTrainedModel, config: MixtureConfig) -> PeftModel:
    """A model of the base's shapes on the meta device that carries the adapter; the base itself is not touched."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(type(base_model)(copy.deepcopy(base_model.config)), config, adapter_name=ADAPTER)


def _layers(twin: PeftModel) -> Iterator[tuple[str, str, MixtureLinear]]:
    """Name in the twin, the end of it from `layers.{i}` on, and layer, of everything adapted."""
    for name, module in twin.named_modules():
        if isinstance(module, MixtureLinear):
            tail = re.search(r"(?<=\.)layers\.\d+\..+", name)
            if tail is None:
                raise ValueError(f"{name}: released layouts number language layers, this linear of the base has none")
            yield name, tail[0], module


def _layer_parts(twin: PeftModel, layout: Layout) -> Iterator[tuple[str, Part]]:
    for name, tail, layer in _layers(twin):
        for part in layout.parts(tail, layer, layer.mixture_plan[ADAPTER]):
            attribute, _, kind = part.ours.partition(".")
            yield f"{name}.{attribute}.{ADAPTER}.{kind}", part


def _projector(twin: PeftModel, files: ReleasedFiles, base_model: PreTrainedModel) -> Iterator[tuple[str, Part]]:
    parts = projector_parts(files.tensors, base_model)
    wrapper = next(name for name, module in twin.named_modules() if isinstance(module, ModulesToSaveWrapper))
    for part in parts:
        yield f"{wrapper}.modules_to_save.{ADAPTER}.{part.ours}", part


def _place(parts: Iterable[tuple[str, Part]], files: ReleasedFiles, layout: Layout) -> Placed:
    """Put the released tensors together as `parts` say, in float32; what is missing or misshapen becomes a mistake."""
    placed, missing = Placed(), dict[str, str]()
    for ours, part in parts:
        names = tuple(canonical(key) for key in part.released)
        found = {name: files.tensors[name] for name in names if name in files.tensors}
        missing |= {key: ours for key, name in zip(part.released, names, strict=True) if name not in found}
        wrong = [
            f"{files.keys[name]}: {what}" for name, tensor in found.items() if (what := _unfit(tensor, part.shape))
        ]
        placed.mistakes += wrong
        placed.used[ours] = names
        if len(found) == len(names) and not wrong:
            placed.tensors[ours] = part.join([tensor.float() for tensor in found.values()]).contiguous()
    used = {name for names in placed.used.values() for name in names}
    unused = [files.keys[name] for name in files.tensors if name not in used and layout.adapter.search(name)]
    placed.mistakes += [
        f"missing: {key} (for {_in_file(ours)}){_resembling(key, unused) if number < SHOWN else ''}"
        for number, (key, ours) in enumerate(missing.items())
    ]
    return placed


def _unfit(tensor: Tensor, shape: tuple[int, ...]) -> str:
    """What is wrong with a released tensor, or an empty text."""
    if tuple(tensor.shape) != shape:
        return f"wrong shape: expected {list(shape)}, found {list(tensor.shape)}"
    if tensor.is_meta:
        return "holds a shape without values: it was saved from the meta device"
    if tensor.layout != torch.strided:
        return f"expected a dense tensor, found {tensor.layout}"
    if not tensor.is_floating_point():
        return f"expected floating point numbers, found {tensor.dtype}"
    finite = tensor.float().isfinite()  # as it is converted; torch has no isfinite for most float8
    return "" if bool(finite.all()) else "holds values that are no finite numbers in float32"


@torch.no_grad()
def _check_base(
    twin: PeftModel, base_model: PreTrainedModel, files: ReleasedFiles, layout: Layout
) -> tuple[dict[str, str], list[str]]:
    """Compare the frozen weights that the files carry with the base's: canonical name -> how, and what is wrong."""
    checked, mistakes = {}, []
    for name, tail, layer in _layers(twin):
        found = next((key for key in map(canonical, layout.base(tail)) if key in files.tensors), None)
        if found is None:
            continue
        theirs, own = files.tensors[found], base_model.get_parameter(f"{name.removeprefix(PEFT_PREFIX)}.weight")
        shape = [layer.out_features, layer.in_features]
        checked[found] = "the frozen base's; its shape was compared"
        if list(theirs.shape) != shape:
            mistakes.append(f"{files.keys[found]}: another base: it has {shape} there, found {list(theirs.shape)}")
        elif own.is_meta or own.shape != theirs.shape:  # no values to compare, or packed by a quantiser
            continue
        elif what := _unfit(theirs, own.shape):
            mistakes.append(f"{files.keys[found]}: {what}")
        else:
            weight = own.float().to(theirs.device)
            apart = float((weight - theirs.float()).abs().mean() / weight.abs().mean())
            checked[found] = "the frozen base's; its values were compared"
            if not apart <= ROUNDING:
                mistakes.append(f"{files.keys[found]}: another base: its weight is {apart:.0%} away from this one's")
    return checked, mistakes


def _in_file(ours: str) -> str:
    """The name under which peft saves the tensor that the model calls `ours`."""
    return ours.replace(f".modules_to_save.{ADAPTER}.", ".").replace(f".{ADAPTER}.", ".")


def _resembling(key: str, unused: list[str]) -> str:
    close = difflib.get_close_matches(key, unused, n=1, cutoff=0.8)
    return near(key, close)
