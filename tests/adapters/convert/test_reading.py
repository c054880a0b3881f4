import argparse
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mixtune.adapters.convert.reading import canonical, read_pickle, read_released


class Malicious:
    """What calls a function when it is unpickled."""

    def __init__(self, function, argument: str):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


class Custom:
    """Harmless, but not on the list."""


def write(path: Path, value, form: str) -> Path:
    if form == "bare":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=form == "zip")
    return path


def naive(path: Path, form: str) -> None:
    if form == "bare":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)


FORMS = ("zip", "legacy", "bare")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "cmoa_args.bin"])
@pytest.mark.parametrize(("function", "code"), [(exec, "open({!r}, 'w')"), (os.system, "touch {!r}")])
def test_code_in_a_pickle_never_runs(tmp_path, form, name, function, code):
    marker, folder = tmp_path / "it ran", tmp_path / "released"
    folder.mkdir()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    path = write(folder / name, {"a": torch.zeros(1), "b": Malicious(function, code.format(str(marker)))}, form)
    naive(path, form)
    assert marker.exists(), "the file is as dangerous as this test thinks"
    marker.unlink()
    with pytest.raises(ValueError) as caught:
        read_released(folder)
    assert str(path) in str(caught.value)
    named = "__builtin__.exec" if function is exec else f"{os.name}.system"
    assert ("bare pickle" if form == "bare" else f"refused: its pickle names {named};") in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_class_that_is_not_on_the_list_is_refused(tmp_path, form):
    path = write(tmp_path / "model.pt", {"a": Custom()}, form)
    with pytest.raises(ValueError) as caught:
        read_pickle(path)
    assert f"{path}: refused: its pickle names {Custom.__module__}.Custom; only tensors," in str(caught.value)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("space", [SimpleNamespace, argparse.Namespace])
def test_namespaces_and_tensors_are_read(tmp_path, form, space):
    value = {"state_dict": {"a": torch.arange(3.0).bfloat16()}, "args": space(r=2, name="x", flags=[True, None])}
    read = read_pickle(write(tmp_path / "model.pt", value, form))
    assert torch.equal(read["state_dict"]["a"], value["state_dict"]["a"])
    assert read["args"] == value["args"]


def test_the_list_is_not_left_open(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    read_pickle(write(tmp_path / "a.pt", SimpleNamespace(a=1), "zip"))
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 torn zip"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"was not written by torch\.save"):
        read_pickle(path)


def test_a_torn_file_is_refused(tmp_path):
    path = write(tmp_path / "model.pt", {"a": torch.zeros(100)}, "legacy")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=f"{path}: cannot be read"):
        read_pickle(path)


def test_absent_files_are_named(tmp_path):
    (tmp_path / "released").mkdir()
    with pytest.raises(ValueError, match="no such file or folder; did you mean 'released'"):
        read_released(tmp_path / "relased")
    (tmp_path / "released" / "config.json").write_text("{}")
    (tmp_path / "released" / "optimizer.pt").write_bytes(b"never read")
    with pytest.raises(ValueError, match=r"holds none of pytorch_model.*there is config.json, optimizer.pt"):
        read_released(tmp_path / "released")


@pytest.mark.parametrize("value", [[torch.zeros(1)], {"a": 1}, {"state_dict": {}}])
def test_what_is_no_state_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="not a state dict"):
        read_released(tmp_path)


def test_settings_must_be_a_namespace(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    torch.save([1], tmp_path / "cmoa_args.bin")
    with pytest.raises(ValueError, match=r"cmoa_args\.bin: holds a list, expected a namespace"):
        read_released(tmp_path)


def test_files_are_put_together(tmp_path):
    first, second = (f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2))
    torch.save({"m.lora_A.default.0": torch.ones(1), "n": torch.zeros(1)}, tmp_path / first)
    torch.save({"o": torch.zeros(2)}, tmp_path / second)
    torch.save({"m.lora_A.0": torch.ones(1)}, tmp_path / "adapter_model.bin")
    (tmp_path / "README.md").write_text("")
    files = read_released(tmp_path)
    assert sorted(files.tensors) == ["m.lora_A.0", "n", "o"] and files.settings is None
    assert files.keys["m.lora_A.0"] == "m.lora_A.default.0"
    assert files.left_over == {"adapter_model.bin: m.lora_A.0": f"the same tensor as in {first}"}
    assert len(files.read) == 3 and files.not_read == ("README.md",)
    torch.save({"m.lora_A.0": torch.ones(1) * 2}, tmp_path / "adapter_model.bin")
    with pytest.raises(ValueError, match=rf"adapter_model\.bin and {first} differ about m\.lora_A\.0"):
        read_released(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.uint16])
def test_equal_tensors_in_two_files_are_one(tmp_path, dtype):
    for name in ("a.pt", "b.pt"):
        torch.save({"x": torch.arange(4.0).to(dtype)}, tmp_path / name)
    assert read_released(tmp_path).left_over == {"b.pt: x": "the same tensor as in a.pt"}
    torch.save({"x": torch.ones(4).to(dtype)}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"b\.pt and a\.pt differ about x"):
        read_released(tmp_path)


@pytest.mark.parametrize("value", [torch.ones(2, device="meta"), torch.ones(2).to_sparse()], ids=["meta", "sparse"])
def test_tensors_that_cannot_be_compared_are_not_taken_for_one(tmp_path, value):
    for name in ("a.pt", "b.pt"):
        torch.save({"x": value}, tmp_path / name)
    with pytest.raises(ValueError, match=r"b\.pt and a\.pt differ about x"):
        read_released(tmp_path)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("p.lora_A.default.3", "p.lora_A.3"),
        ("p.lora_A.default.weight", "p.lora_A.weight"),
        ("p.defaults.weight", "p.defaults.weight"),
        ("base_model.model.model.mm_projector.0.weight", "mm_projector.0.weight"),
        ("mm_projector.bias", "mm_projector.bias"),
        ("in_adaptor.projector.2.bias", "mm_projector.2.bias"),
        ("x.old_mm_projector.bias", "x.old_mm_projector.bias"),
    ],
)
def test_one_name_for_the_spellings_of_a_tensor(key, name):
    assert canonical(key) == name
