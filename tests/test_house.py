"""The house rules a reader can rely on: small files and functions, few
parameters, imports that go one way, nothing left unfinished.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "mixtune"
FILES = sorted(SOURCE.rglob("*.py"))
IDS = [str(path.relative_to(SOURCE)) for path in FILES]
SIZED = [*FILES, *sorted((ROOT / "benchmarks").glob("*.py"))]
SIZED_IDS = [*IDS, *(str(path.relative_to(ROOT)) for path in SIZED[len(FILES) :])]

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 250, 40, 7

# The rooms in the order data flows: a room imports itself and the rooms before it. `train` is train.py with training/.
ROOMS = (
    "config",
    "data",
    "routing",
    "kernels",
    "adapters",
    "train",
    "check",
    "evaluate",
    "analyse",
    "compare",
    "pocket",
    "cli",
)
SAME_ROOM = {"training": "train"}


def room_of(module: str) -> str | None:
    """The room of a dotted name inside the package; None for the package itself."""
    parts = module.split(".")
    if parts[0] != "mixtune" or len(parts) == 1:
        return None
    return SAME_ROOM.get(parts[1], parts[1])


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of everything a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", SIZED, ids=SIZED_IDS)
def test_file_is_small_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a file says what it is in its docstring"


@pytest.mark.parametrize("path", SIZED, ids=SIZED_IDS)
def test_functions_are_small(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
        assert (node.end_lineno or 0) - (start or 0) <= MAX_FUNCTION_LINES, f"{node.name} is too long"
        given = [
            a.arg
            for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            if a.arg not in ("self", "cls")
        ]
        takes_words = any(
            re.match(r"\w+\.(command|callback)\(", ast.unparse(d)) for d in node.decorator_list
        )  # a command's options are its parameters
        assert len(given) <= MAX_PARAMETERS or takes_words, f"{node.name} takes {len(given)} parameters"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_go_one_way(path: Path) -> None:
    here = room_of("mixtune." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
    if here not in ROOMS:
        assert path.name in ("__init__.py", "__main__.py") and path.parent == SOURCE
        return
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        there = room_of(name)
        if there is not None and there != here:
            assert ROOMS.index(there) < ROOMS.index(here), f"{path.name} ({here}) imports {name} ({there})"


def test_nothing_is_left_unfinished() -> None:
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b")
    found = [
        str(path) for path in (*SIZED, *ROOT.glob("tests/**/*.py")) if marks.search(path.read_text(encoding="utf-8"))
    ]
    assert not found


def test_nothing_is_unpickled() -> None:
    """torch.load only with weights_only=True, and no pickle module anywhere in the package."""
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not imported(tree) & {"pickle", "dill", "cloudpickle", "joblib"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path


def test_tests_mirror_the_source() -> None:
    """Every test file is named after a source file or folder, or is one of the few that look at the whole."""
    whole = {"test_house", "test_cuda", "test_rules", "test_golden", "test_public", "test_benchmarks", "test_zoo"}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = SOURCE / path.relative_to(ROOT / "tests").parent
        name = path.stem.removeprefix("test_")
        assert path.stem in whole or (folder / f"{name}.py").exists() or (folder / name).is_dir(), path
