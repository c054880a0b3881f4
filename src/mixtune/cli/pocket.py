"""Commands of the pocket suite: `pocket prepare`, `pocket statistics`, `pocket adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixtune.cli.base import SETTINGS, app, user_errors

pocket_app = typer.Typer(
    help="The pocket suite: a small real model and tasks that need no model hub.",
    no_args_is_help=True,
    context_settings=SETTINGS,
)
app.add_typer(pocket_app, name="pocket")


@pocket_app.command("prepare")
def pocket_prepare_command(
    captions: Annotated[bool, typer.Option("--captions", help="Also the pictures of stage 1.")] = False,
    mix: Annotated[
        list[str] | None,
        typer.Option(help="Also a mix: `natural`, `conflict`, `conflict-many`; the last two with `-STRENGTH`."),
    ] = None,
) -> None:
    """Fetch the packages, convert the model, draw the tasks; whatever is there already is kept.

    Recipes and evaluations prepare the mixes they name by themselves.

    Examples:
        mixtune pocket prepare

        mixtune pocket prepare --mix natural --mix conflict --mix conflict-0.5
    """
    with user_errors():
        from mixtune.pocket import prepare_mix, prepare_pocket

        paths = prepare_pocket(captions=captions)
        typer.echo(f"model {paths.model}\ndata  {paths.data}")
        for name in mix or ():
            typer.echo(f"{name}  {prepare_mix(name)}")


@pocket_app.command("statistics")
def pocket_statistics_command() -> None:
    """Measure the vision encoder's numbers again and keep them in the package (before `align`).

    Example:
        mixtune pocket statistics
    """
    with user_errors():
        from mixtune.pocket.statistics import keep_statistics

        typer.echo(f"kept in {keep_statistics()}")


@pocket_app.command("adopt")
def pocket_adopt_command(run: Annotated[Path, typer.Argument(help="Folder of a finished `align` run.")]) -> None:
    """Keep the projector of an `align` run in the package, as bfloat16 safetensors.

    Example:
        mixtune pocket adopt runs/align
    """
    with user_errors():
        from mixtune.pocket.model import adopt_projector

        typer.echo(f"kept in {adopt_projector(run)}")
