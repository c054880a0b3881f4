"""Rule 6: a fresh adapter is the base model, so is a disabled one, and what is saved is loaded as the same bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import logging

from mixtune.adapters.layer import MixtureLinear
from mixtune.check.examples import NotApplicableError
from mixtune.check.results import Tally
from mixtune.check.subject import Subject
from mixtune.check.untouched import values_kept

COPIED = 1_000_000_000  # parameters of the largest model that is copied whole
FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."


def fresh(subject: Subject, tally: Tally) -> None:
    """With every B at zero, where a fresh adapter starts, the logits are those without adapter, bit for bit."""
    inputs = subject.batch([each.whole() for each in subject.few], "right")
    banks = [each for name, each in subject.parameters.items() if ".mixture_B." in name]
    with values_kept(banks):
        with torch.no_grad():
            for bank in banks:
                bank.zero_()
        found = subject.look(inputs).logits
    with subject.bare():
        expected = subject.look(inputs).logits
    tally.close(found, expected, "logits", exact=True)


def disabled(subject: Subject, tally: Tally) -> None:
    """Switched off by the library's own means the logits are those of the base's modules alone, bit for bit."""
    inputs = subject.batch([each.whole() for each in subject.few], "right")
    with _disabled(subject.model):
        found = subject.look(inputs).logits
    with _base_only(subject.model):
        expected = subject.look(inputs).logits
    tally.close(found, expected, "logits", exact=True)


@contextmanager
def _disabled(model: Any) -> Iterator[None]:
    if isinstance(model, PeftModel):
        with model.disable_adapter():
            yield
        return
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()
        for module in model.modules():  # which transformers' enable_adapters leaves out
            if isinstance(module, ModulesToSaveWrapper):
                module.enable_adapters(True)


@contextmanager
def _base_only(model: nn.Module) -> Iterator[None]:
    """Every module that an adapter put in the place of another passes its input on to that other one."""
    originals = {
        module: module.base_layer if isinstance(module, MixtureLinear) else module.original_module
        for module in model.modules()
        if isinstance(module, (MixtureLinear, ModulesToSaveWrapper))
    }
    for module, original in originals.items():
        module.__dict__["forward"] = original.__call__
    try:
        yield
    finally:
        for module in originals:
            del module.__dict__["forward"]


def saved(subject: Subject, tally: Tally) -> None:
    """The file that `save_pretrained` writes holds every tensor of the adapter; loaded into a copy it acts the same."""
    options = {"save_embedding_layers": False} if isinstance(subject.model, PeftModel) else {}
    with TemporaryDirectory() as folder:
        with _no_bars():
            subject.model.save_pretrained(folder, **options)
        for adapter in subject.adapters:
            path = Path(folder) / ("" if adapter == "default" else adapter) / FILE
            path = path if path.exists() else Path(folder) / FILE
            written = load_file(path)
            _compare(tally, written, adapter_state(subject, adapter))
            if not tally.faults:
                _load_again(subject, tally, adapter, written)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide transformers' progress bars, which would break into that of the checks."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def adapter_state(subject: Subject, adapter: str) -> dict[str, Tensor]:
    """What a file of `adapter` must hold, by its names there: the mixture's tensors and modules trained beside it."""
    found = {}
    for name, parameter in subject.inner.named_parameters():
        parts = name.split(".")
        if adapter in parts and (".mixture_" in name or ".modules_to_save." in name):
            kept = [part for part in parts if part not in (adapter, "modules_to_save")]
            found[PREFIX + ".".join(kept)] = parameter
    return found


def _compare(tally: Tally, written: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    for name, value in state.items():
        if tally.fact(name in written, f"{name}: not in the file"):
            tally.close(written[name], value.cpu(), name, exact=True)


def _load_again(subject: Subject, tally: Tally, adapter: str, written: dict[str, Tensor]) -> None:
    if sum(each.numel() for each in subject.model.parameters()) > COPIED:
        return
    inputs = subject.batch([subject.examples[0].whole()], "right")
    other = copied(subject)
    with torch.no_grad():
        for name, parameter in other.parameters.items():
            if f".{adapter}." in name:
                parameter.fill_(0.5)
    if not isinstance(other.model, PeftModel):  # whose names have no prefix; transformers strips it too
        written = {name.removeprefix(PREFIX): value for name, value in written.items()}
    set_peft_model_state_dict(other.model, written, adapter_name=adapter)
    found, expected = other.look(inputs, seed=0), subject.look(inputs, seed=0)
    tally.close(found.logits, expected.logits, "logits after loading", exact=True)


def copied(subject: Subject) -> Subject:
    """A deep copy of the model, with the same examples. Raises NotApplicableError if the model is too large for two."""
    if sum(each.numel() for each in subject.model.parameters()) > COPIED:
        raise NotApplicableError(f"models of more than {COPIED:.0e} parameters are not copied")
    return Subject(copy.deepcopy(subject.model), subject.examples, subject.tolerance, subject.pad_token_id)
