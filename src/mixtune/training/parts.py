"""The parts of a vision-language model that training treats apart, and the two things a run can train."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from mixtune.adapters import families
from mixtune.training.checkpoint import CheckpointError, read_json

RESULT_CARD = "train_result.json"
ADAPTER_FILE = "adapter_model.safetensors"
PROJECTOR_FILE = "projector.safetensors"
PROJECTOR_CARD = "projector.json"


def vision_tower(model: nn.Module) -> nn.Module:
    """The image encoder, as `families.vision_tower` finds it. Raises ValueError if there is none."""
    return families.vision_tower(model)[1]


def projector(model: nn.Module) -> tuple[str, nn.Module]:
    """(last part of its name, module) of the projector from image features to token embeddings.

    Raises ValueError as `families.projector`, if there is none.
    """
    path, module = families.projector(model)
    return path.rpartition(".")[2], module


def base_fingerprint(model: PreTrainedModel) -> str:
    """A short hash of a base model: names and shapes of its parameters, and values along its token embeddings.

    Equal for equal weights whatever the dtype they are held in (values are rounded to bfloat16), different for two
    checkpoints of one architecture. Take it before an adapter is put on.
    """
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        digest.update(f"{name}{tuple(weight.shape)}".encode())
    table_VD = next(model.get_input_embeddings().parameters()).detach()
    stride = max(1, table_VD.shape[0] // 64)
    values = table_VD[::stride, :16].to(torch.bfloat16).float().cpu().contiguous()
    digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def base_dtype(model: PreTrainedModel) -> torch.dtype:
    """The dtype the frozen base is held in: that of its token embeddings."""
    return next(model.get_input_embeddings().parameters()).dtype


def _to_float32(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)


def hold_in_float32(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep a trained module's weights, and compute it, in float32 between neighbours of `dtype`.

    An update of a bfloat16 weight smaller than 1/256 of it is lost, so what trains is float32. Casting at the
    module's border (not autocast, which recasts every frozen float32 weight at each call) makes training, evaluation
    and generation run the same arithmetic. Calling it again changes nothing.
    """
    module.float()
    if dtype == torch.float32 or getattr(module, "_mixtune_float32", False):
        return
    module.register_forward_pre_hook(_to_float32)
    module.register_forward_hook(lambda _module, _args, output: output.to(dtype))
    module.__dict__["_mixtune_float32"] = True


def saved_modules(model: nn.Module) -> Iterator[nn.Module]:
    """The trained copies that peft made for `modules_to_save`."""
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield from module.modules_to_save.values()


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide two warnings of peft's: on its use of transformers' older names, and on the base's name, which we check."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*base_model_name_or_path.*", category=UserWarning)
        yield


class Trained(Protocol):
    """What a run trains: how it is named, saved and loaded. `routed` says whether the model takes prompt masks."""

    routed: bool
    model: nn.Module

    def save(self, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write the trained weights into an existing folder."""

    def load(self, folder: Path) -> None:
        """Read them back; every tensor must be there, with its shape, and no other."""


def compare_tensors(path: Path, saved: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise CheckpointError naming the first tensor of file `path` that is missing, unexpected or of another shape."""
    for name in sorted(saved.keys() | expected.keys()):
        if name not in saved:
            raise CheckpointError(f"{path}: tensor '{name}' is missing; the file is of another model or adapter")
        if name not in expected:
            raise CheckpointError(
                f"{path}: tensor '{name}' has no place in this model; it is of another base or adapter"
            )
        if saved[name].shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: tensor '{name}' has shape {tuple(saved[name].shape)}, this model needs "
                f"{tuple(expected[name].shape)}; the file is of another base"
            )


class TunedAdapter:
    """An adapter (and the modules saved with it) on a frozen base; `model` is the PeftModel."""

    routed = True

    def __init__(self, model: PeftModel):
        self.model = model

    def save(self, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write adapter_model.safetensors and adapter_config.json."""
        self.model.save_pretrained(str(folder), state_dict=state_dict, save_embedding_layers=False)

    def load(self, folder: Path) -> None:
        """Load the adapter bit for bit. Raises CheckpointError naming a tensor that does not fit."""
        path = Path(folder) / ADAPTER_FILE
        saved = read_tensors(path)
        compare_tensors(path, saved, get_peft_model_state_dict(self.model, save_embedding_layers=False))
        set_peft_model_state_dict(self.model, saved)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises CheckpointError naming the file if it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); take another checkpoint or train again") from error


class AlignedProjector:
    """The projector alone on a frozen model (stage align); `base` is the recipe's name of that model."""

    routed = False

    def __init__(self, model: nn.Module, base: str, fingerprint: str):
        self.model, self.base, self.fingerprint = model, base, fingerprint
        self._module = projector(model)[1]

    def save(self, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write projector.safetensors, and projector.json with base, base fingerprint and sha256 of the file."""
        state = {name: value.detach().contiguous() for name, value in self._module.state_dict().items()}
        path = Path(folder) / PROJECTOR_FILE
        save_file(state, path, metadata={"format": "pt"})
        card = {
            "base": self.base,
            "base_fingerprint": self.fingerprint,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        (Path(folder) / PROJECTOR_CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Load the projector bit for bit.

        Raises CheckpointError if a tensor does not fit or the file is not the one its card describes.
        """
        path = Path(folder) / PROJECTOR_FILE
        card = read_json(Path(folder) / PROJECTOR_CARD)
        if hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
            raise CheckpointError(f"{path}: is damaged: its sha256 differs from that in {PROJECTOR_CARD}")
        saved = read_tensors(path)
        compare_tensors(path, saved, self._module.state_dict())
        self._module.load_state_dict(saved)


def check_base(file: Path, model: PreTrainedModel, base: str) -> None:
    """Raise CheckpointError if `file` (JSON) records the fingerprint of another base than `model`."""
    card = read_json(file)
    now = base_fingerprint(model)
    if card["base_fingerprint"] != now:
        raise CheckpointError(
            f"{file.parent}: was trained on base '{card['base']}' (fingerprint {card['base_fingerprint']}), not on "
            f"'{base}' (fingerprint {now}); load it onto the base it was trained on"
        )


def load_projector(model: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """Put the projector of an align run's folder into `model`, in place, and return the model.

    Raises CheckpointError if it was aligned for another base, is damaged or does not fit.
    """
    folder = Path(folder)
    check_base(folder / PROJECTOR_CARD, model, str(model.name_or_path))
    AlignedProjector(model, "", "").load(folder)
    return model


def load_adapter(model: PreTrainedModel, folder: str | Path) -> PeftModel:
    """`model` with the adapter of a run's folder or checkpoint, in eval mode, computing as in training.

    Raises CheckpointError if there is no adapter, if it was trained on another base or if a tensor does not fit.
    """
    folder = Path(folder)
    if not (folder / "adapter_config.json").exists():
        raise CheckpointError(f"{folder}: holds no adapter (adapter_config.json is missing)")
    if (folder / RESULT_CARD).exists():
        check_base(folder / RESULT_CARD, model, str(model.name_or_path))
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}/adapter_config.json: cannot be read ({error})") from error
    base = config.base_model_name_or_path
    with quiet_peft():
        tuned = get_peft_model(model, config)
    tuned.peft_config["default"].base_model_name_or_path = base
    for module in saved_modules(tuned):
        hold_in_float32(module, base_dtype(model))
    TunedAdapter(tuned).load(folder)
    return tuned.requires_grad_(False).eval()
