"""The command that checks the rules of routing on the user's own model: `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixtune.cli.base import Dtype, app, user_errors

CHECK_HELP = """Check the seven rules of routing (docs/routing.md) on your own model, before you trust it.

Examples:

    mixtune check pocket

    mixtune check llava-hf/llava-1.5-7b-hf --adapter runs/mine --data mine.jsonl

    mixtune check my-model --preset llava-mole     (is this model fit for this method? random values, nothing is kept)

Prints rule, check, result and the largest difference, and writes check.json. Exit status 1: a rule is broken; 2: the
model, adapter or data cannot be used. Checks that the bare model fails too do not apply; the reason says so. Use
float32: in bfloat16 two choices may tie, and rounding decide between them.
"""


@app.command("check", help=CHECK_HELP)
def check_command(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or `pocket`.")],
    adapter: Annotated[Path | None, typer.Option("--adapter", "-a", help="Folder of a tuned adapter.")] = None,
    preset: Annotated[str, typer.Option(help="Method of a fresh adapter, where none is given.")] = "mixlora",
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", help="File, `pocket/SPLIT` or `pocket/MIX/SPLIT`; default random samples."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="How many samples are taken.")] = 4,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default ADAPTER or runs/MODEL.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="What the base is held in.")] = Dtype.float32,
    tolerance: Annotated[float | None, typer.Option(help="Largest difference allowed; default by dtype.")] = None,
    attention: Annotated[str, typer.Option("--attn-implementation", help="As in transformers.")] = "sdpa",
) -> None:
    """Check, print the table and leave with status 1 if a rule is broken."""
    from rich.console import Console

    with user_errors():
        from mixtune.check import CHECKS, CheckRequest, run_check
        from mixtune.check.console import print_rules, shown_progress
        from mixtune.pocket.checking import resolve_check

        given = {"preset": preset, "data": data, "examples": examples, "dtype": dtype.value, "tolerance": tolerance}
        request = CheckRequest.model_validate(
            {"model": model, "adapter": adapter, "attn_implementation": attention, **given}
        )
        with shown_progress(Console(stderr=True), len(CHECKS)) as show:
            report = run_check(resolve_check(request), show)
        folder = out or adapter or Path("runs") / Path(model).name
        print_rules(Console(), report.results)
        typer.echo(f"written to {report.write(folder)}")
    if report.broken:
        raise typer.Exit(1)
