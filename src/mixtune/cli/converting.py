"""The command that makes an adapter of a released checkpoint: `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixtune.cli.base import app, user_errors

CONVERT_HELP = """Make an adapter of a checkpoint that one of the two founding papers released (docs/methods.md).

Examples:

    mixtune convert downloads/mixlora --base llava-hf/llava-1.5-7b-hf --out adapters/mixlora

    mixtune convert llava_mole.pt --base llava-hf/llava-1.5-7b-hf --out adapters/mole --lora-alpha 64

The adapter computes what the released code computes. Settings are read from the files; an option counts instead of what
they say. Prints what was used, compared with the base and left over, and keeps it as conversion.json.
"""


@app.command("convert", help=CONVERT_HELP)
def convert_command(
    source: Annotated[Path, typer.Argument(help="Folder or file of the checkpoint.")],
    base: Annotated[str, typer.Option("--base", "-b", help="The model it is for: folder or hub id.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the adapter.")],
    r: Annotated[int | None, typer.Option("--r", min=1, help="Slots (MixLoRA) or rank of an expert.")] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="The scale is lora_alpha / r.")] = None,
    lora_dropout: Annotated[float | None, typer.Option(help="Dropout, if it is trained on.")] = None,
    cond_type: Annotated[str | None, typer.Option(help="Flag of the released MixLoRA code.")] = None,
    ifs_weight: Annotated[float | None, typer.Option(help="Flag of the released MixLoRA code.")] = None,
    projector: Annotated[bool, typer.Option("--projector/--no-projector", help="Take its projector too.")] = True,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Load the base and compare its frozen weights with it.")
    ] = True,
) -> None:
    """Convert and say what was done."""
    with user_errors():
        from mixtune.adapters.convert import ReleasedSettings, convert_released
        from mixtune.config import ModelSettings
        from mixtune.training.loading import ModelError, load_model, meta_model

        given = ReleasedSettings(
            r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, cond_type=cond_type, ifs_weight=ifs_weight,
            projector=projector,
        )  # fmt: skip
        settings = ModelSettings(name_or_path=base)
        model = load_model(settings)[0] if compare else meta_model(settings)
        if model is None:
            raise ModelError(f"--base: '{base}' is not on this machine, so its shapes are not known")
        for line in convert_released(source, model, out, given, base_name=base).summary():
            typer.echo(line)
        typer.echo(f"written to {out}")
