"""A table as text: printed without cutting anything, or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

WIDEST = 10_000


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as text: a title, the names of the columns, rows of cells; the first column is left-aligned."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def show(self, console: Console) -> None:
        """Print it; nothing is cut, also where the console is narrower."""
        wide = Console(file=console.file, width=WIDEST, force_terminal=console.is_terminal)
        table = self.rich()
        table.width = Measurement.get(wide, wide.options, table).maximum
        wide.print(table, soft_wrap=True)

    def rich(self) -> Table:
        """For a console."""
        table = Table(
            title=escape(self.title), title_justify="left", box=None, pad_edge=False, header_style="bold underline"
        )
        for number, name in enumerate(self.header):
            table.add_column(escape(name), justify="left" if number == 0 else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """The same in Markdown."""
        lines = [f"**{self.title}**", "", f"| {' | '.join(self.header)} |"]
        lines.append("|---|" + "---:|" * (len(self.header) - 1))
        shown = ([cell.replace("|", "\\|") for cell in row] for row in self.rows)
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in shown)]) + "\n"
