"""What the pickles of torch.save may ask for, read off their operations without running them.

torch's reader for weights takes besides its own list whatever a library of the process has put on torch's list of safe
names, and some of that does things when it is made: a DeviceMesh starts a process group. So the list here is our own,
and a file is held against it before torch sees the file.
"""

from __future__ import annotations

import pickletools
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import torch

ALLOWED = (SimpleNamespace, Namespace)
READ = (
    "tensors, parameters, numbers, text, lists, tuples, dicts, sets, OrderedDicts, dtypes, sizes, devices, "
    + ", ".join(f"{each.__module__}.{each.__name__}" for each in ALLOWED)
)
STORAGES = "Bool Byte Char Short Int Long Half BFloat16 Float Double ComplexFloat ComplexDouble"
DTYPES = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex32 complex64 "
    "complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"
)
REBUILT = "tensor_v2 tensor_v3 parameter sparse_tensor meta_tensor_no_storage"
# Module and name as torch.save writes them, with one space between: nothing else can be spelled the same way.
NAMES = frozenset(
    ["collections OrderedDict", "__builtin__ set", "torch Size", "torch device", "torch.storage UntypedStorage"]
    + ["torch.serialization _get_layout"]
    + [f"torch._utils _rebuild_{what}" for what in REBUILT.split()]
    + [f"torch {kind}Storage" for kind in STORAGES.split()]
    + [f"torch {dtype}" for dtype in DTYPES.split()]
    + [f"{each.__module__} {each.__name__}" for each in ALLOWED]
)
# What torch's reader knows. INST, STACK_GLOBAL and EXT1 to EXT4, which get a name in other ways, are not in it.
OPERATIONS = frozenset(
    "PROTO STOP MARK GLOBAL REDUCE NEWOBJ BUILD BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINSTRING EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM "
    "SETITEMS EMPTY_SET BINGET LONG_BINGET BINPUT LONG_BINPUT".split()
)
PROGRAM = "data.pkl"  # the one record of a zip that torch.load runs
ZIP_MARK = b"PK\x03\x04"  # by which torch.load takes a file for a zip, whatever else is in it
LEGACY_MARK = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # what torch.save began a file with before it wrote zips
LEGACY_PICKLES = 5  # mark, version, the writer's machine, the value, keys of the storages; then raw numbers


def check_pickles(path: Path) -> bool:
    """Hold every pickle that torch.load would run in the file `path` against the lists. True if it is a zip.

    Raises ValueError, naming the file, for a name or operation that is on none of them, for a zip with more or fewer
    than one program, and for a file that torch.save did not write.
    """
    with path.open("rb") as file:
        head = file.read(32)
        file.seek(0)
        is_zip = head.startswith(ZIP_MARK)
        if not is_zip and LEGACY_MARK not in head:
            raise ValueError(_foreign(path))
        if is_zip:
            _check(path, _program(path, file))
        else:
            for _ in range(LEGACY_PICKLES):
                _check(path, file)
    return is_zip


def _program(path: Path, file: IO[bytes]) -> bytes:
    """The record that torch.load runs, found by torch's own reader: others take another one of several, or another
    table of contents.
    """
    try:
        reader = torch._C.PyTorchFileReader(file)
        found = [name for name in reader.get_all_records() if name.lower().endswith(PROGRAM)]
        if len(found) != 1:
            raise ValueError(f"{path}: refused: has {len(found)} records called {PROGRAM}; torch.save writes one")
        return bytes(reader.get_record(PROGRAM))
    except RuntimeError as error:
        raise ValueError(_foreign(path)) from error


def _check(path: Path, pickled: IO[bytes] | bytes) -> None:
    """Hold one pickle against the lists. It is read up to its end, no further."""
    asked = ""
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name not in OPERATIONS:
                asked = f"uses the operation {operation.name}"
            elif operation.name == "GLOBAL" and argument not in NAMES:
                asked = f"names {str(argument).replace(' ', '.')}"
            if asked:
                break
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if asked:
        raise ValueError(f"{path}: refused: its pickle {asked}; only {READ} are read")


def _foreign(path: Path) -> str:
    return (
        f"{path}: was not written by torch.save (a bare pickle or a damaged file) and is not read, because reading a "
        "pickle can run what it names"
    )
