"""The command line: a thin table of commands. Each imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
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
pocket_app = typer.Typer(
    help="The pocket suite: a small real model and tasks that need no model hub.",
    no_args_is_help=True,
    context_settings=SETTINGS,
)
app.add_typer(pocket_app, name="pocket")

TRAIN_HELP = """Run a recipe: stage `align` trains the projector, stage `tune` an adapter.

Examples:

    mixtune train recipes/pocket/demo.yaml

    mixtune train my.yaml learning_rate=1e-4 adapter.num_factors=32   (change fields of the recipe)

    mixtune train my.yaml --dry-run     (check everything, train two steps, keep nothing)

    mixtune train my.yaml --max-bad 20     (leave out up to 20 unreadable samples and list them)

A run that was interrupted goes on from its newest checkpoint when the same command is given again; a finished one is
not repeated. `--no-resume` discards what is there and begins anew.
"""

EVALUATE_HELP = """Question a model, with or without an adapter, and count: greedy answers and ranking of the options.

Examples:

    mixtune evaluate pocket --benchmark pocket

    mixtune evaluate pocket --adapter runs/demo/mixlora --benchmark pocket --per-task 20

    mixtune evaluate llava-hf/llava-1.5-7b-hf --adapter runs/mine --benchmark mine.jsonl --out runs/mine/evaluation

Writes results.json (accuracy with Wilson intervals beside chance) and samples.jsonl (every question and answer). An
interrupted evaluation goes on where it stopped.
"""

REPORT_HELP = """Write one self-contained page about all evaluated models of a run folder, with its JSON and PNG.

Example:

    mixtune report runs/demo          (reads runs/demo/*/evaluation, writes runs/demo/report.html)
"""

DEMO_HELP = """Tune a mixture and plain LoRA by one recipe, hold both against the untuned model, and write the report.

Example:

    mixtune demo recipes/pocket/demo.yaml

Safe to interrupt: the same command goes on where it stopped.
"""


class Way(str, Enum):
    """Which answers count."""

    rank = "rank"
    greedy = "greedy"


class Dtype(str, Enum):
    """What a base is held in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


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


@app.command("evaluate", help=EVALUATE_HELP)
def evaluate_command(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or `pocket`.")],
    benchmark: Annotated[list[str], typer.Option("--benchmark", "-b", help="`pocket` or a file of samples.")],
    adapter: Annotated[Path | None, typer.Option("--adapter", "-a", help="Folder of a tuned adapter.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Default ADAPTER/evaluation, else runs/MODEL/evaluation.")
    ] = None,
    per_task: Annotated[int | None, typer.Option("--per-task", min=1, help="Only the first N of a task.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Speed and memory; in bfloat16 a few answers too.")] = 64,
    max_bad: Annotated[int, typer.Option("--max-bad", min=0, help="Skip at most N unreadable samples.")] = 0,
    dtype: Annotated[Dtype, typer.Option(help="What the base is held in.")] = Dtype.bfloat16,
    attention: Annotated[str, typer.Option("--attn-implementation", help="As in transformers.")] = "sdpa",
) -> None:
    """Evaluate and print the table."""
    from rich.console import Console

    with user_errors():
        from mixtune.analyse.console import print_results
        from mixtune.pocket.benchmark import EvaluationRequest, evaluate_request

        given = {"per_task": per_task, "max_bad": max_bad, "dtype": dtype.value, "attn_implementation": attention}
        request = EvaluationRequest.model_validate(
            {"model": model, "benchmarks": tuple(benchmark), "adapter": adapter, **given}
        )
        folder = out or (adapter or Path("runs") / Path(model).name) / "evaluation"
        result = evaluate_request(request, folder, batch_size=batch_size)
        print_results(Console(), {"accuracy": result.results})
        typer.echo(f"written to {result.folder}")


@app.command("report", help=REPORT_HELP)
def report_command(
    runs: Annotated[Path, typer.Argument(help="Folder that holds MODEL/evaluation folders.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page; default RUNS/report.html.")] = None,
    way: Annotated[
        Way, typer.Option(help="Which answers count; rows without options have greedy ones only.")
    ] = Way.rank,
) -> None:
    """Write the report and say where it is."""
    with user_errors():
        from mixtune.analyse import ReportSettings, write_report

        settings = ReportSettings.model_validate({"way": way.value, "command": f"mixtune report {runs}"})
        typer.echo(f"written to {write_report(runs, out or runs / 'report.html', settings)}")


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


@pocket_app.command("prepare")
def pocket_prepare_command(
    captions: Annotated[bool, typer.Option("--captions", help="Also the pictures of stage 1.")] = False,
) -> None:
    """Fetch the packages, convert the model, draw the tasks; whatever is there already is kept.

    Example:
        mixtune pocket prepare
    """
    with user_errors():
        from mixtune.pocket import prepare_pocket

        paths = prepare_pocket(captions=captions)
        typer.echo(f"model {paths.model}\ndata  {paths.data}")


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


if __name__ == "__main__":
    app()
