"""The whole language model as what trains (stage full), and loading back whatever a run trained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from mixtune.training.checkpoint import CheckpointError, read_json
from mixtune.training.parts import (
    PROJECTOR_CARD,
    check_base,
    compare_tensors,
    load_adapter,
    load_projector,
    projector,
    read_tensors,
)

WEIGHTS_FILE = "weights.safetensors"
WEIGHTS_CARD = "weights.json"


def unfreeze_language_model(model: PreTrainedModel, *, with_projector: bool) -> dict[str, int]:
    """Let the language model with its embeddings train (and the projector), the vision tower stay as it is.

    Returns the numbers of trained values by part, as `trainable_breakdown` names them.
    """
    inside: list[nn.Module] = [model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()]
    for module in inside:
        module.requires_grad_(True)
    bridge = projector(model)[1]
    bridge.requires_grad_(with_projector)
    total = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    spent = sum(weight.numel() for weight in bridge.parameters() if weight.requires_grad)
    return {"factors": 0, "routers": 0, "projector": spent, "other": total - spent}


class TunedModel:
    """A model of which all weights that require a gradient train; `base` is the recipe's name of that model."""

    routed = False

    def __init__(self, model: nn.Module, base: str, fingerprint: str):
        self.model, self.base, self.fingerprint = model, base, fingerprint

    def _trained(self) -> dict[str, Tensor]:
        named = self.model.named_parameters()
        return {name: weight.detach().contiguous() for name, weight in named if weight.requires_grad}

    def save(self, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write weights.safetensors, and weights.json with base, base fingerprint and sha256 of the file."""
        path = Path(folder) / WEIGHTS_FILE
        save_file(self._trained(), path, metadata={"format": "pt"})
        card = {"base": self.base, "base_fingerprint": self.fingerprint, "sha256": _digest(path)}
        (Path(folder) / WEIGHTS_CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Load the weights bit for bit. Raises CheckpointError if a file is damaged or a tensor does not fit."""
        saved = _read_weights(Path(folder))
        compare_tensors(Path(folder) / WEIGHTS_FILE, saved, self._trained())
        _put(self.model, saved)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS_FILE
    saved = read_tensors(path)
    if _digest(path) != read_json(folder / WEIGHTS_CARD)["sha256"]:
        raise CheckpointError(f"{path}: is damaged: its sha256 differs from that in {WEIGHTS_CARD}")
    return saved


def _put(model: nn.Module, saved: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in saved:
                weight.copy_(saved[name])


def load_whole(model: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """Put the weights of a stage-full run's folder into `model`, in place and in its dtype, and return the model.

    Raises CheckpointError if they were trained from another base, are damaged or do not fit.
    """
    folder = Path(folder)
    check_base(folder / WEIGHTS_CARD, model, str(model.name_or_path))
    saved = _read_weights(folder)
    named = dict(model.named_parameters())
    compare_tensors(folder / WEIGHTS_FILE, saved, {name: named[name] for name in saved if name in named})
    _put(model, saved)
    return model


def load_tuned(model: PreTrainedModel, folder: str | Path) -> nn.Module:
    """`model` with what a run of any stage left in its folder: an adapter, a projector or all weights.

    Raises CheckpointError as `load_adapter`, `load_projector` and `load_whole`, or if the folder holds none of them.
    """
    folder = Path(folder)
    if (folder / WEIGHTS_CARD).exists():
        return load_whole(model, folder)
    if (folder / PROJECTOR_CARD).exists():
        return load_projector(model, folder)
    return load_adapter(model, folder)
