"""Other people's checkpoint files, read without running anything that is in them.

A pickle is a program. `check_pickles` lets those through that build tensors and plain data; torch's own reader for
weights then runs them, and the two classes of `ALLOWED`, which hold values and do nothing, are all that is added to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixtune.adapters.convert.opcodes import ALLOWED, check_pickles
from mixtune.config import near

SETTINGS_FILE = "cmoa_args.bin"
TENSOR_FILES = ("pytorch_model*.bin", "adapter_model.bin", "non_lora_trainables.bin", "mm_projector.bin", "*.pt")
NOT_TENSORS = ("optimizer", "scheduler", "scaler", "rng_state")  # what a trainer keeps in *.pt beside the weights


@dataclass(frozen=True, kw_only=True)
class ReleasedFiles:
    """What a released checkpoint holds.

    tensors: by canonical name (see `canonical`). keys: the name in its file of each. settings: of the settings file,
    None if there is none. left_over: keys that were put aside while reading, with the reason. read, not_read: files.
    """

    tensors: dict[str, Tensor]
    keys: dict[str, str]
    settings: dict[str, Any] | None
    left_over: dict[str, str]
    read: tuple[str, ...]
    not_read: tuple[str, ...]


def canonical(key: str) -> str:
    """One name for the spellings of one tensor: no adapter name "default", no wrappers before the projector.

    Whole models are saved as `...lora_A.default.3`, peft's files say `...lora_A.3`.
    """
    key = re.sub(r"\.default(?=\.|$)", "", key)
    return re.sub(r"^(.*\.)?(mm_projector|in_adaptor\.projector)\.", "mm_projector.", key)


def read_pickle(path: Path) -> Any:
    """What torch.save wrote into `path`; tensors of a zip are mapped, not copied, into memory.

    Raises ValueError, naming the file and what its pickle asked for, unless that is tensors, plain data and `ALLOWED`
    alone, whatever other libraries have told torch is safe; also for a file that torch.save did not write.
    """
    is_zip = check_pickles(path)
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # torch raises pickle's own error, RuntimeError, EOFError and more
        said = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Check the docu")]
        raise ValueError(f"{path}: cannot be read: {said[-1].strip() if said else repr(error)}") from error


def read_released(source: Path) -> ReleasedFiles:
    """Read a folder (every file of TENSOR_FILES in it) or one file, and the settings file beside it.

    Raises ValueError if there is nothing to read, if a file is refused, or if two files differ about one tensor.
    """
    if not source.exists():
        known = source.parent.iterdir() if source.parent.is_dir() else ()
        raise ValueError(f"{source}: there is no such file or folder{near(source.name, (p.name for p in known))}")
    folder = source if source.is_dir() else source.parent
    paths = _tensor_files(folder) if source.is_dir() else [source]
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    origin: dict[str, str] = {}
    left_over: dict[str, str] = {}
    for path in paths:
        for key, value in _entries(path).items():
            name = canonical(key)
            if not isinstance(value, Tensor):
                left_over[key] = f"of type {type(value).__name__}, not a tensor"
            elif name not in tensors:
                tensors[name], keys[name], origin[name] = value, key, path.name
            elif _same(tensors[name], value):
                left_over[f"{path.name}: {key}"] = f"the same tensor as in {origin[name]}"
            else:
                raise ValueError(
                    f"{folder}: {path.name} and {origin[name]} differ about {key}; convert the file of them that counts"
                )
    settings = _settings(folder / SETTINGS_FILE)
    read = {path.name for path in paths} | ({SETTINGS_FILE} if settings is not None else set())
    others = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in read)
    return ReleasedFiles(
        tensors=tensors, keys=keys, settings=settings, left_over=left_over, read=tuple(sorted(read)),
        not_read=tuple(others) if source.is_dir() else (),
    )  # fmt: skip


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether both hold the same values. Two without values, or two sparse ones, are not known to."""
    if one.shape != other.shape or any(each.is_meta or each.layout != torch.strided for each in (one, other)):
        return False
    # torch compares no float8, which holds one byte a number
    one, other = (each.float() if each.is_floating_point() and each.itemsize == 1 else each for each in (one, other))
    return torch.equal(one, other)


def _tensor_files(folder: Path) -> list[Path]:
    found = dict.fromkeys(path for pattern in TENSOR_FILES for path in sorted(folder.glob(pattern)))
    paths = [path for path in found if not path.name.startswith(NOT_TENSORS)]
    if not paths:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ValueError(f"{folder}: holds none of {', '.join(TENSOR_FILES)}; there is {there}")
    return paths


def _entries(path: Path) -> dict[str, Any]:
    """The state dict of a file: what it holds, or what it holds under "state_dict" with the rest beside it."""
    loaded = read_pickle(path)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = {**{key: value for key, value in loaded.items() if key != "state_dict"}, **loaded["state_dict"]}
    if not isinstance(loaded, Mapping) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path}: holds a {type(loaded).__name__} without tensors, not a state dict")
    return {str(key): value for key, value in loaded.items()}


def _settings(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    loaded = read_pickle(path)
    if not isinstance(loaded, (Mapping, *ALLOWED)):
        raise ValueError(f"{path}: holds a {type(loaded).__name__}, expected a namespace of settings")
    return {str(name): value for name, value in (loaded if isinstance(loaded, Mapping) else vars(loaded)).items()}
