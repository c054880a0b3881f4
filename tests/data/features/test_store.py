"""The store is whole after a kill, agrees with itself under several writers, and keeps to its limit."""

import os
import pickle
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mixtune.data.features import store as files
from mixtune.data.features.store import FeatureStore

NAMES = [f"{number:02}" for number in range(20)]


def tensor(name: str, dtype=torch.float32) -> torch.Tensor:
    return torch.full((4, 8), float(name), dtype=dtype) + torch.arange(8, dtype=dtype)


def fill(store: FeatureStore, names=NAMES, dtype=torch.float32, pause=0.0) -> list[str]:
    """Add what is missing; what that was."""
    with store.filling():
        missing = store.missing(names)
        for name in missing:
            store.add(name, tensor(name, dtype))
            time.sleep(pause)
    return missing


def opened(root, space="space", limit=10**9) -> FeatureStore:
    return FeatureStore(root, space, limit)


def shards(root) -> list:
    return sorted(root.glob("*/features-*.safetensors"))


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(files, "SHARD_TENSORS", 2)


def forked(action) -> int:
    """The process id of a child that runs `action`, exit status 0 if it returns."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return pid


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_added_comes_back_bit_for_bit_from_a_memory_map_in_every_process(tmp_path, dtype):
    assert fill(opened(tmp_path), dtype=dtype) == NAMES
    again = opened(tmp_path)
    assert fill(again) == []
    for reader in (again, pickle.loads(pickle.dumps(again))):
        for name in NAMES:
            found = reader.get(name)
            assert found.dtype == dtype and torch.equal(found, tensor(name, dtype))
    assert again.get("other") is None
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(shards(tmp_path)[0]) in maps.read_text()


def test_other_spaces_know_nothing_of_it(tmp_path):
    fill(opened(tmp_path))
    assert fill(opened(tmp_path, "other"), NAMES[:2]) == NAMES[:2]


def test_a_view_that_is_not_contiguous_is_kept_as_it_reads(tmp_path):
    store, odd = opened(tmp_path), torch.arange(24.0).view(4, 6).T[1:4]
    with store.filling():
        store.missing(["odd"])
        store.add("odd", odd)
    assert torch.equal(store.get("odd"), odd)


def spoil_tensor(shard):
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)


def spoil_shape(shard):
    content = shard.read_bytes()
    assert b"[4,8]" in content
    shard.write_bytes(content.replace(b"[4,8]", b"[8,4]"))


def cut(shard):
    shard.write_bytes(shard.read_bytes()[:-7])


def empty(shard):
    shard.write_bytes(b"")


def without_checksums(shard):
    shard.write_bytes(shard.read_bytes().replace(b"checksums", b"checksume"))


def other_name(shard):
    with safe_open(shard, "pt") as file:
        name = sorted(file.keys())[0]
    content = shard.read_bytes()  # the tensor's own entry in the header, not the one among the checksums
    shard.write_bytes(content.replace(b'"' + name.encode() + b'":{"dtype"', b'"xx":{"dtype"'))


@pytest.mark.parametrize("spoil", [spoil_tensor, spoil_shape, cut, empty, without_checksums, other_name])
def test_damage_is_found_and_made_good(tmp_path, small_shards, spoil):
    fill(opened(tmp_path))
    spoil(shards(tmp_path)[3])
    store = opened(tmp_path)
    assert len(fill(store)) == 2, "the two tensors of that shard, no others"
    assert all(torch.equal(store.get(name), tensor(name)) for name in NAMES)
    assert fill(opened(tmp_path)) == []


def test_damage_that_comes_later_gives_no_tensor(tmp_path):
    store = opened(tmp_path)
    fill(store)
    shard = shards(tmp_path)[0]
    with shard.open("r+b") as file:  # in place, as a failing disk would
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    assert [name for name in NAMES if store.get(name) is None] == NAMES[-1:]


def test_least_recently_used_shards_make_room(tmp_path, small_shards):
    for age, space in ((2, "first"), (1, "second")):
        fill(opened(tmp_path, space), NAMES[:4])
        for shard in (tmp_path / space).glob("*.safetensors"):
            os.utime(shard, (100 - age, 100 - age))
    one = shards(tmp_path)[0].stat().st_size
    fill(opened(tmp_path, "first"), NAMES[:4])  # used again, which makes "second" the oldest
    store = opened(tmp_path, "third", limit=6 * one)
    fill(store, NAMES[:8])
    assert store.bytes == 6 * one
    assert not list((tmp_path / "second").glob("*.safetensors"))
    assert all(store.get(name) is not None for name in NAMES[:8])
    assert fill(opened(tmp_path, "first"), NAMES[:4]) == []


def test_files_of_others_are_left_alone(tmp_path, small_shards):
    for foreign in (tmp_path / "model" / "model.safetensors", tmp_path / "space" / "notes.safetensors"):
        foreign.parent.mkdir()
        foreign.write_bytes(b"not ours" * 1000)
        os.utime(foreign, (1, 1))
    fill(opened(tmp_path, limit=3 * 1000))
    assert (tmp_path / "model" / "model.safetensors").exists() and (tmp_path / "space" / "notes.safetensors").exists()


def test_what_a_run_uses_is_not_deleted_to_make_room_for_its_own(tmp_path, small_shards):
    fill(opened(tmp_path), NAMES[:8])
    one = shards(tmp_path)[0].stat().st_size
    store = opened(tmp_path, limit=4 * one)
    fill(store, NAMES[4:12])
    assert store.bytes <= 4 * one
    assert all(torch.equal(store.get(name), tensor(name)) for name in NAMES[4:12])
    assert fill(opened(tmp_path), NAMES[:12]) == NAMES[:4]


def test_a_run_does_not_delete_its_own_even_if_others_were_used_later(tmp_path, small_shards):
    for space in ("own", "other"):
        fill(opened(tmp_path, space), NAMES[:4])
    one = shards(tmp_path)[0].stat().st_size
    store = opened(tmp_path, "own", limit=4 * one)
    with store.filling():
        missing = store.missing(NAMES[:8])
        for shard in (tmp_path / "other").glob("*.safetensors"):
            os.utime(shard, (2**32, 2**32))
        for name in missing:
            store.add(name, tensor(name))
    assert missing == NAMES[4:8] and store.bytes == 4 * one
    assert fill(opened(tmp_path, "own"), NAMES[:8]) == []


def test_a_reader_outlives_the_deletion_of_its_shards(tmp_path):
    store = opened(tmp_path)
    fill(store)
    fill(store)
    for shard in shards(tmp_path):
        shard.unlink()
    assert all(torch.equal(store.get(name), tensor(name)) for name in NAMES)


def test_two_processes_that_fill_at_once_share_the_work(tmp_path, small_shards):
    ready = tmp_path / "ready"

    def work():
        while not ready.exists():
            time.sleep(0.001)
        fill(opened(tmp_path / "root"), pause=0.002)

    children = [forked(work) for _ in range(3)]
    ready.touch()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert len(shards(tmp_path / "root")) == len(NAMES) // 2, "each tensor was made once"
    store = opened(tmp_path / "root")
    assert fill(store) == []
    assert all(torch.equal(store.get(name), tensor(name)) for name in NAMES)


def test_who_waits_is_told(tmp_path, small_shards):
    started, told = tmp_path / "started", []

    def slow():
        with opened(tmp_path / "root").filling():
            started.touch()
            time.sleep(0.2)

    pid = forked(slow)
    while not started.exists():
        time.sleep(0.001)
    with opened(tmp_path / "root").filling(lambda: told.append("waiting")):
        assert told == ["waiting"]
    assert os.waitpid(pid, 0)[1] == 0


def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_way(_tensors, path, metadata):
    path.write_bytes(b"half")
    die()


@pytest.mark.parametrize("moment", ["while the third shard is written", "before the third shard is published"])
def test_a_kill_leaves_whole_shards_and_no_lock(tmp_path, small_shards, moment):
    def killed():
        store = opened(tmp_path)
        with store.filling():
            for name in NAMES[:5]:
                store.add(name, tensor(name))
            if moment.startswith("while"):
                files.save_file = die_half_way
            else:
                files.os.replace = die
            store.add(NAMES[5], tensor(NAMES[5]))

    assert os.WTERMSIG(os.waitpid(forked(killed), 0)[1]) == signal.SIGKILL
    assert len(list(tmp_path.glob("*/.partial-*"))) == 1
    store = opened(tmp_path)
    assert fill(store) == NAMES[4:], "what was published is kept"
    assert all(torch.equal(store.get(name), tensor(name)) for name in NAMES)
    assert not list(tmp_path.glob("*/.partial-*"))


def test_an_error_while_filling_keeps_what_was_published(tmp_path, small_shards):
    store = opened(tmp_path)
    with pytest.raises(RuntimeError, match="tower"), store.filling():
        for name in NAMES[:5]:
            store.add(name, tensor(name))
        raise RuntimeError("tower")
    assert fill(store) == NAMES[4:]
