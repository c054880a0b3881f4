"""What was checked, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mixtune.check.results import RuleResult

WORDS = {True: ("kept", "green"), False: ("broken", "bold red"), None: ("does not apply", "dim")}


@contextmanager
def shown_progress(console: Console, total: int) -> Iterator[Callable[[RuleResult], None]]:
    """A function that takes each result: a bar with the count, the time so far and the check made last.

    The bar appears with the first result, since loading a model has one of its own.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    progress = Progress(*columns, console=console, transient=True)
    bar = progress.add_task("", total=total)

    def show(result: RuleResult) -> None:
        progress.start()
        progress.update(bar, advance=1, description=result.check)

    try:
        yield show
    finally:
        progress.stop()


def rules_table(results: Sequence[RuleResult]) -> Table:
    """Under the name of each rule one row a check: result and largest difference. Fits 80 columns, cuts no name."""
    table = Table(box=None, collapse_padding=True, pad_edge=False, header_style="bold underline")
    table.add_column("rule and check", no_wrap=True, min_width=40)
    table.add_column("result", no_wrap=True, min_width=14)
    table.add_column("largest difference", justify="right", no_wrap=True)
    rule = ""
    for each in results:
        if each.rule != rule:
            rule = each.rule
            table.add_row(f"[bold]{rule}[/]")
        word, style = WORDS[each.kept]
        difference = "–" if each.kept is None else f"{each.difference:.1e}" if each.difference else "0"
        table.add_row(f"  {each.check}", f"[{style}]{word}[/]", difference)
    return table


def print_rules(console: Console, results: Sequence[RuleResult]) -> None:
    """The table, then what is to say about single checks, broken ones last, then the sum."""
    console.print(rules_table(results))
    console.print()
    for each in sorted((one for one in results if one.reason), key=lambda one: one.kept is False):
        word, style = WORDS[each.kept]
        console.print(
            f"[{style}]{word}[/] {escape(each.check)}: {escape(each.reason)}", soft_wrap=True, highlight=False
        )
    counts = {kept: sum(each.kept is kept for each in results) for kept in WORDS}
    total = f"{counts[True]} checks kept, {counts[False]} broken, {counts[None]} do not apply"
    console.print(total, style="bold", highlight=False)
