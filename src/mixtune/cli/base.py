"""What all commands share: the application, choices, and errors meant for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Annotated

import typer

SETTINGS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="mixtune",
    help="Fine-tune vision-language models on many tasks at once with mixtures of LoRA.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


class Dtype(str, Enum):
    """What a base is held in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


Threads = Annotated[int | None, typer.Option(min=1, help="Threads of the processor; default all.")]


def set_threads(count: int | None) -> None:
    """Let torch compute with so many threads, if a number is given."""
    if count:
        import torch

        torch.set_num_threads(count)


@contextmanager
def user_errors() -> Iterator[None]:
    """Print an error meant for the user without a traceback, and leave with status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from None


@app.callback()
def main() -> None:
    """Fine-tune vision-language models on many tasks at once with mixtures of LoRA."""
