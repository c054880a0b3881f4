import argparse
import copyreg
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.tensor  # puts DeviceMesh on torch's list of safe names
from torch import distributed

from mixtune.adapters.convert.opcodes import DTYPES, LEGACY_PICKLES, NAMES
from mixtune.adapters.convert.reading import read_pickle

RAN = []


def run(text: str) -> dict:
    """What another library put on torch's list: it leaves a trace when it is called."""
    RAN.append(text)
    return {}


class Library:
    """The same, with a dot in its name."""

    run = staticmethod(lambda text: run(text))


Library.run.__qualname__ = "Library.run"
EXTENSION = 200


@pytest.fixture(autouse=True)
def others_call_it_safe():
    RAN.clear()
    copyreg.add_extension(__name__, "run", EXTENSION)
    with torch.serialization.safe_globals([run, Library.run]):
        yield
    copyreg.remove_extension(__name__, "run", EXTENSION)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


CALL = b"(" + text("x") + b"tR."
# A pickle that calls the function -> whether torch's reader for weights, or only a plain one, runs it; what is refused
FORMS = {
    "GLOBAL": (b"\x80\x02" + named(__name__, "run") + CALL, True, f"names {__name__}.run"),
    "dotted name": (b"\x80\x02" + named(__name__, "Library.run") + CALL, True, f"names {__name__}.Library.run"),
    "dotted module": (b"\x80\x02" + named(f"{__name__}.Library", "run") + CALL, True, f"names {__name__}.Library.run"),
    "INST": (b"(" + text("x") + f"i{__name__}\nrun\n.".encode(), False, "uses the operation INST"),
    "STACK_GLOBAL": (
        b"\x80\x04" + text(__name__) + text("run") + b"\x93" + CALL, False, "uses the operation STACK_GLOBAL"
    ),
    "EXT1": (b"\x80\x02\x82" + bytes([EXTENSION]) + CALL, False, "uses the operation EXT1"),
    "EXT2": (b"\x80\x02\x83" + struct.pack("<H", EXTENSION) + CALL, False, "uses the operation EXT2"),
    "EXT4": (b"\x80\x02\x84" + struct.pack("<i", EXTENSION) + CALL, False, "uses the operation EXT4"),
}  # fmt: skip


def zipped(path: Path, *programs: tuple[str, bytes]) -> Path:
    """A file of torch.save with these records, by name, in the place of its program."""
    torch.save({"a": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as file:
        records = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in records.items():
            if not name.endswith("data.pkl"):
                file.writestr(name, content)
                continue
            for inner, program in programs:
                file.writestr(name.replace("data.pkl", inner), program)
    return path


def legacy(path: Path, program: bytes, place: int) -> Path:
    """A file as torch.save wrote them before, with another pickle in one of its five places."""
    pickles = [pickle.dumps(each, 2) for each in (torch.serialization.MAGIC_NUMBER, 1001, {}, {}, [])]
    pickles[place] = program
    path.write_bytes(b"".join(pickles))
    return path


def loads(path: Path, weights_only: bool) -> None:
    """Read the file as others do, up to the error that comes after what it calls."""
    try:
        torch.load(path, weights_only=weights_only)
    except Exception as error:
        assert RAN or distributed.is_initialized(), error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["zip", *range(1, LEGACY_PICKLES)])
def test_what_other_libraries_call_safe_never_runs(tmp_path, form, place):
    program, weights_only, refused = FORMS[form]
    path = tmp_path / "model.pt"
    path = zipped(path, ("data.pkl", program)) if place == "zip" else legacy(path, program, place)
    loads(path, weights_only)
    assert RAN == ["x"], "the file is as dangerous as this test thinks"
    RAN.clear()
    with pytest.raises(ValueError) as caught:
        read_pickle(path)
    assert str(caught.value).startswith(f"{path}: refused: its pickle {refused}; only tensors, parameters, ")
    assert not RAN


def test_a_device_mesh_is_never_made(tmp_path, monkeypatch):
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    mesh = b"\x80\x02" + named("torch.distributed.device_mesh", "DeviceMesh") + b"(" + text("cpu") + b"](K\x00etR."
    path = zipped(tmp_path / "model.pt", ("data.pkl", mesh))
    with pytest.raises(ValueError, match=r"names torch\.distributed\.device_mesh\.DeviceMesh; only tensors"):
        read_pickle(path)
    assert not distributed.is_initialized()
    loads(path, weights_only=True)
    assert distributed.is_initialized(), "the file is as dangerous as this test thinks"
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("other", ["data.pkl", "DATA.PKL", "below/data.pkl"])
def test_a_zip_has_one_program(tmp_path, other):
    bad, good = FORMS["GLOBAL"][0], pickle.dumps({}, 2)
    for number, programs in enumerate([(bad, good), (good, bad)]):
        before = list(RAN)
        path = zipped(tmp_path / f"{number}.pt", *zip(("data.pkl", other), programs, strict=True))
        with pytest.raises(ValueError, match=rf"{number}\.pt: refused: has 2 records called data\.pkl"):
            read_pickle(path)
        assert before == RAN
        torch.load(path, weights_only=True)
    assert RAN == ["x"], "torch takes one of the two"


def test_a_zip_without_its_program_is_refused(tmp_path):
    with pytest.raises(ValueError, match="refused: has 0 records called"):
        read_pickle(zipped(tmp_path / "a.pt"))
    with pytest.raises(ValueError, match=r"was not written by torch\.save"):
        read_pickle(zipped(tmp_path / "b.pt", ("below/data.pkl", FORMS["GLOBAL"][0])))
    assert not RAN


@pytest.mark.parametrize("program", [b"", b"\x80\x02}", b"\x80\x02\x01.", b"\x80\x02X\xff\x00\x00\x00ab."])
def test_a_torn_program_is_refused(tmp_path, program):
    path = zipped(tmp_path / "a.pt", ("data.pkl", program))
    with pytest.raises(ValueError, match=f"{path}: cannot be read: "):
        read_pickle(path)


NOT_IN_LEGACY = ("uint16", "uint32", "uint64", "complex32", "float8")  # torch writes them there and cannot read them


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:ComplexHalf", "ignore:Sparse")
def test_what_torch_saves_is_read_and_the_list_holds_nothing_else(tmp_path, zip_file):
    dtypes = [name for name in DTYPES.split() if zip_file or not name.startswith(NOT_IN_LEGACY)]
    values = {name: (getattr(torch, name), torch.zeros(2, dtype=getattr(torch, name))) for name in dtypes}
    values |= {
        "state": torch.nn.Linear(2, 2).state_dict(), "parameter": torch.nn.Parameter(torch.ones(2)),
        "ordered": OrderedDict(a=[1, 2**70, 1.5, None, True, (), "é"]), "set": {1, 2}, "size": torch.Size([1, 2]),
        "device": torch.device("cpu"), "spaces": (SimpleNamespace(a=1), argparse.Namespace(b=2)),
        "sparse": torch.eye(2).to_sparse(), "rows": torch.eye(2).to_sparse_csr(), "meta": torch.ones(2, device="meta"),
    }  # fmt: skip
    path = tmp_path / "model.pt"
    torch.save(values, path, _use_new_zipfile_serialization=zip_file)
    read = read_pickle(path)
    for name in dtypes:
        assert read[name][0] == read[name][1].dtype == getattr(torch, name)
    for name in ("ordered", "set", "size", "device", "spaces"):
        assert read[name] == values[name] and type(read[name]) is type(values[name])
    assert torch.equal(read["state"]["weight"], values["state"]["weight"])
    assert isinstance(read["parameter"], torch.nn.Parameter) and read["meta"].is_meta
    assert torch.equal(read["sparse"].to_dense(), torch.eye(2)) and torch.equal(read["rows"].to_dense(), torch.eye(2))
    if zip_file:
        with path.open("rb") as file:
            operations = pickletools.genops(torch._C.PyTorchFileReader(file).get_record("data.pkl"))
            assert {argument for operation, argument, _ in operations if operation.name == "GLOBAL"} == NAMES
