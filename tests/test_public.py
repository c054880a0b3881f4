"""What a stranger relies on: exported names, commands, and that the
README and the recipes speak of things that exist.
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mixtune
from mixtune.cli import app
from mixtune.compare import load_comparison
from mixtune.config import load_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = ("train", "evaluate", "report", "compare", "analyse", "check", "convert", "demo", "env", "pocket")


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.output


def test_exported_names() -> None:
    assert set(mixtune.__all__) == {
        "MixtureConfig",
        "__version__",
        "auxiliary_loss",
        "center_routers",
        "get_peft_model",
        "record_routing",
    }
    assert all(hasattr(mixtune, name) for name in mixtune.__all__)


def test_every_command_has_help_with_an_example() -> None:
    listed = shown("--help")
    for command in COMMANDS:
        assert command in listed
        if command not in ("analyse", "pocket"):
            assert "Example" in shown(command, "--help"), command
    for command in ("prepare", "statistics", "adopt"):
        assert "Example" in shown("pocket", command, "--help"), command
    for command in ("interference", "routing"):
        assert "Example" in shown("analyse", command, "--help"), command


def test_the_readme_names_commands_targets_and_files_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for command in re.findall(r"mixtune ([a-z]+)", README):
        if command in COMMANDS:
            shown(command, "--help")
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / link).exists(), link


def test_the_docs_link_to_files_that_exist() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_example_imports_what_exists() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.name)
def test_a_recipe_loads_and_is_headed_by_its_launch_command(path: Path) -> None:
    (load_comparison if path.stem.startswith("compare") else load_recipe)(path)
    head = "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    assert "Launch" in head and any(words in head for words in ("mixtune train", "mixtune compare", "make"))
