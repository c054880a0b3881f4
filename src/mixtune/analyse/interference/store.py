"""The files of an analysis that are kept between launches: one a finished block or part, each written by one rename."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mixtune.evaluate.store import write_json

PARTS, PLAN = "parts", "plan.json"


class PartStore:
    """Finished parts in `folder`/parts. With another fingerprint than theirs they are removed, and `say` is told: they
    are of another model, other samples or settings. A file that cannot be read counts as not there.
    """

    def __init__(self, folder: Path, fingerprint: str, say: Callable[[str], None] = print) -> None:
        self.folder = Path(folder) / PARTS
        path = self.folder / PLAN
        try:
            same = json.loads(path.read_text(encoding="utf-8")).get("fingerprint") == fingerprint
        except (OSError, ValueError):
            same = False
        if not same:
            if count := len(list(self.folder.glob("*.safetensors"))):
                say(f"removes    {count} parts in {self.folder}, begun with other weights, samples or settings")
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_json(path, {"fingerprint": fingerprint})

    def made(self, name: str, make: Callable[[], dict[str, Tensor]]) -> Path:
        """The file of part `name`: as it is, or made now. It records the seconds that making it took."""
        path = self.folder / f"{name}.safetensors"
        if not self._readable(path):
            started = time.monotonic()
            tensors = {key: value.detach().cpu().contiguous() for key, value in make().items()}
            draft = path.with_name(f".{path.name}.partial")
            save_file(tensors, draft, metadata={"seconds": str(time.monotonic() - started)})
            draft.replace(path)
        return path

    def has(self, name: str) -> bool:
        """Whether part `name` is finished."""
        return self._readable(self.folder / f"{name}.safetensors")

    def seconds(self) -> float:
        """Seconds that making all parts took, earlier launches included."""
        return sum(float(_metadata(path).get("seconds", 0)) for path in self.folder.glob("*.safetensors"))

    def _readable(self, path: Path) -> bool:
        try:
            return bool(_metadata(path))
        except (OSError, SafetensorError):
            return False


def remove_parts(folder: Path) -> None:
    """Delete all parts in `folder`."""
    shutil.rmtree(Path(folder) / PARTS, ignore_errors=True)


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def joined(paths: list[Path], key: str) -> Tensor:
    """Tensor `key` of all parts, one after the other."""
    return torch.cat([tensor for tensor in _tensors(paths, key)])


def stacked(paths: list[Path], key: str) -> Tensor:
    """Tensor `key` of all parts along a new first dimension."""
    return torch.stack(list(_tensors(paths, key)))


def _tensors(paths: list[Path], key: str) -> Iterator[Tensor]:
    for path in paths:
        with safe_open(path, framework="pt") as file:
            yield file.get_tensor(key)
