"""The command line: a thin table of commands. Each imports what it needs when it is called, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="mixtune",
    help="Fine-tune vision-language models on many tasks at once with mixtures of LoRA.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TRAIN_HELP = """Run a recipe: stage `align` trains the projector, stage `tune` an adapter.

Examples:

    mixtune train recipes/pocket/demo.yaml

    mixtune train my.yaml learning_rate=1e-4 adapter.num_factors=32   (change fields of the recipe)

    mixtune train my.yaml --dry-run     (check everything, train two steps, keep nothing)

    mixtune train my.yaml --max-bad 20     (leave out up to 20 unreadable samples and list them)

A run that was interrupted goes on from its newest checkpoint when the same command is given again; a finished one is
not repeated. `--no-resume` discards what is there and begins anew.
"""


def fail(error: Exception) -> None:
    """Print an error meant for the user, without a traceback, and leave with status 2."""
    typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
    raise typer.Exit(2)


@app.callback()
def main() -> None:
    """Fine-tune vision-language models on many tasks at once with mixtures of LoRA."""


@app.command("train", help=TRAIN_HELP)
def train_command(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value ...", metavar="[KEY=VALUE]...")] = None,
    max_bad: Annotated[int | None, typer.Option("--max-bad", min=0, help="Skip at most N samples.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, train two steps, keep nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint.")] = True,
) -> None:
    """Load the recipe with its changes and train."""
    from mixtune.config import load_recipe

    changes = [*(overrides or []), *([f"data.max_bad={max_bad}"] if max_bad is not None else [])]
    try:
        settings = load_recipe(recipe, changes)
        from mixtune.train import train

        train(settings, resume=resume, dry_run=dry_run)
    except ValueError as error:
        fail(error)


@app.command("env")
def env_command() -> None:
    """Print versions, devices and folders: what a bug report needs.

    Example:
        mixtune env
    """
    from mixtune.training.environment import describe_environment

    for name, value in describe_environment().items():
        typer.echo(f"{name:<14}{value}")
