"""Tensors by name in write-once files that runs share: memory-mapped, checked, atomic, bounded.

A root holds one folder a *space* (what else features depend on, see `keys.space_key`), and a space holds *shards*,
safetensors files that never change:

    root/room.lock                            held while a shard is published or others make room for it
    root/<space>/filling.lock                 held by the one process that adds to the space
    root/<space>/features-<id>.safetensors    up to 256 tensors or 64 MiB, with the checksum of each in its header

Files of other names are left alone. There is no index beside the shards to fall out of step with them. A kill leaves
whole shards and perhaps a hidden draft, which the next filler removes. A shard that is deleted while another process
has it mapped stays readable there.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SHARD_BYTES, SHARD_TENSORS = 64 * 2**20, 256
HEADER_BYTES = 400  # at most, of one tensor: its name twice, dtype, shape, offsets, checksum
SHARDS, DRAFT, CHECKSUMS = "features-*.safetensors", ".partial-", "checksums"


def checksum(name: str, tensor: Tensor) -> str:
    """BLAKE2b over name, dtype, shape and bytes."""
    digest = hashlib.blake2b(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode(), digest_size=16)
    digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class FeatureStore:
    """The tensors of one space. `limit` bounds the bytes of all spaces under `root`.

    An instance can be sent to other processes; each maps the files for itself.
    """

    def __init__(self, root: Path, space: str, limit: int):
        self.root, self.folder, self.limit = Path(root), Path(root) / space, limit
        self._sums: dict[str, tuple[Path, str]] = {}
        self._maps: dict[Path, Any] = {}
        self._used: set[Path] = set()
        self._draft: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    # Reading

    def get(self, name: str) -> Tensor | None:
        """The tensor of this name, a view of its file; None if there is none, or one that fails its checksum."""
        shard, expected = self._sums.get(name, (None, ""))
        if shard is None:
            return None
        try:
            if shard not in self._maps:
                self._maps[shard] = safe_open(shard, framework="pt")
            tensor = self._maps[shard].get_tensor(name)
        except (OSError, SafetensorError):
            return None
        return tensor if checksum(name, tensor) == expected else None

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that have no sound tensor here. A shard that holds a damaged one is deleted whole.

        The other shards of `names` count as used now, and are not deleted to make room for what is added.
        """
        wanted = []
        for name in names:
            wanted.append(name)
            if name in self._sums and self.get(name) is None:
                self._discard(self._sums[name][0])
        self._used = {self._sums[name][0] for name in wanted if name in self._sums}
        for shard in sorted(self._used):
            try:
                os.utime(shard)
            except FileNotFoundError:  # another run has just made room
                self._discard(shard)
        return [name for name in wanted if name not in self._sums]

    def _refresh(self) -> None:
        """Look up what the space holds now. Shards that cannot be read are deleted."""
        self._sums, self._maps = {}, {}
        for shard in sorted(self.folder.glob(SHARDS)):
            try:
                file = safe_open(shard, framework="pt")
                sums = json.loads(file.metadata()[CHECKSUMS])
                if set(sums) != set(file.keys()):
                    raise ValueError("checksums of other tensors")
            except (OSError, SafetensorError, ValueError, KeyError, TypeError):
                shard.unlink(missing_ok=True)
                continue
            self._maps[shard] = file
            self._sums |= {name: (shard, each) for name, each in sums.items()}

    def _discard(self, shard: Path) -> None:
        shard.unlink(missing_ok=True)
        self._maps.pop(shard, None)
        self._used.discard(shard)
        self._sums = {name: found for name, found in self._sums.items() if found[0] != shard}

    # Writing

    @contextmanager
    def filling(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be the one process that adds to this space; `waiting()` is called if another one is at it.

        What the space holds is known from here on. Added tensors are written as shards fill up, and at the end.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "filling.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
        try:
            for leftover in self.folder.glob(DRAFT + SHARDS):
                leftover.unlink()
            self._refresh()
            yield
            self._flush()
        finally:
            self._draft = {}
            lock.release()

    def add(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor under `name`; only inside `filling`."""
        self._draft[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        size = sum(each.numel() * each.element_size() for each in self._draft.values())
        if size >= SHARD_BYTES or len(self._draft) >= SHARD_TENSORS:
            self._flush()

    def _flush(self) -> None:
        """Publish the added tensors as one shard: written aside, forced to disk, renamed."""
        if not self._draft:
            return
        sums = {name: checksum(name, tensor) for name, tensor in self._draft.items()}
        shard = self.folder / SHARDS.replace("*", uuid.uuid4().hex)
        aside = self.folder / f"{DRAFT}{shard.name}"
        save_file(self._draft, aside, metadata={"format": "pt", CHECKSUMS: json.dumps(sums)})
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        with FileLock(self.root / "room.lock"):
            self._make_room(aside.stat().st_size)
            os.replace(aside, shard)
        self._maps[shard] = safe_open(shard, framework="pt")  # at once, before another run may make room
        self._used.add(shard)
        self._sums |= {name: (shard, each) for name, each in sums.items()}
        self._draft = {}

    def _make_room(self, needed: int) -> None:
        """Delete the least recently used shards of all spaces until `needed` bytes fit; those in use here stay."""
        found = _shards(self.root)
        total = sum(each.st_size for each in found.values()) + needed
        for shard in sorted(found, key=lambda each: found[each].st_mtime_ns):
            if total <= self.limit:
                return
            if shard not in self._used:
                shard.unlink(missing_ok=True)
                total -= found[shard].st_size

    @property
    def bytes(self) -> int:
        """Bytes that all spaces under the root take now."""
        return sum(each.st_size for each in _shards(self.root).values())


def _shards(root: Path) -> dict[Path, os.stat_result]:
    """The published shards of all spaces; one that is deleted meanwhile is left out."""
    found = {}
    for shard in root.glob(f"*/{SHARDS}"):
        with suppress(FileNotFoundError):
            found[shard] = shard.stat()
    return found
