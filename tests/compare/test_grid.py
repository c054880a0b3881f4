"""Tables: nothing cut, nothing broken."""

import io

from rich.console import Console

from mixtune.compare.grid import Grid


def test_a_narrow_console_cuts_nothing():
    console = Console(width=20, file=io.StringIO())
    Grid(title="t", header=["a" * 30, "b"], rows=[["x", "y" * 30]]).show(console)
    assert "a" * 30 in console.file.getvalue() and "y" * 30 in console.file.getvalue()


def test_a_bar_in_a_cell_ends_no_column_in_markdown():
    grid = Grid(title="t", header=["a", "b"], rows=[["x|y", "z"]])
    assert grid.markdown().splitlines()[-1] == "| x\\|y | z |"


def test_brackets_are_text():
    console = Console(file=io.StringIO(), width=80)
    Grid(title="[a]", header=["[b]"], rows=[["choose from [float32, bfloat16]"], ["OSError: [/tmp/x] gone"]]).show(
        console
    )
    shown = console.file.getvalue()
    assert all(text in shown for text in ("[a]", "[b]", "[float32, bfloat16]", "[/tmp/x]"))
