"""Commands that train: `train`, `demo`, and `env` for bug reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixtune.cli.base import app, user_errors

TRAIN_HELP = """Run a recipe: stage `align` trains the projector, stage `tune` an adapter.

Examples:

    mixtune train recipes/pocket/demo.yaml

    mixtune train my.yaml learning_rate=1e-4 adapter.num_factors=32   (change fields of the recipe)

    mixtune train my.yaml --dry-run     (check everything, train two steps, keep nothing)

    mixtune train my.yaml --max-bad 20     (leave out up to 20 unreadable samples and list them)

A run that was interrupted goes on from its newest checkpoint when the same command is given again; a finished one is
not repeated. `--no-resume` discards what is there and begins anew.
"""

DEMO_HELP = """Tune a mixture and plain LoRA by one recipe, hold both against the untuned model, and write the report.

Example:

    mixtune demo recipes/pocket/demo.yaml

Safe to interrupt: the same command goes on where it stopped.
"""


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
    with user_errors():
        settings = load_recipe(recipe, changes)
        from mixtune.pocket import resolve
        from mixtune.train import train

        train(resolve(settings), resume=resume, dry_run=dry_run)


@app.command("demo", help=DEMO_HELP)
def demo_command(
    recipe: Annotated[Path, typer.Argument(help="The recipe both arms share.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; default runs/demo.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps and questions only.")] = False,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on where it stopped.")] = True,
) -> None:
    """Run the demo and say where the report is."""
    with user_errors():
        from rich.console import Console

        from mixtune.pocket.demo import Demo

        folder = out or Path("runs") / ("demo-smoke" if smoke else "demo")
        console = Console(highlight=False)
        page = Demo(recipe=recipe, out=folder, smoke=smoke, resume=resume, console=console).run()
        typer.echo(f"the report is {page} (with {page.with_suffix('.json').name} and {page.with_suffix('.png').name})")


@app.command("env")
def env_command() -> None:
    """Print versions, devices and folders: what a bug report needs.

    Example:
        mixtune env
    """
    from mixtune.training.environment import describe_environment

    for name, value in describe_environment().items():
        typer.echo(f"{name:<14}{value}")
