"""Commands that question a model and show the answers: `evaluate`, `report`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mixtune.cli.base import Dtype, app, user_errors

EVALUATE_HELP = """Question a model, with or without an adapter, and count: greedy answers and ranking of the options.

Examples:

    mixtune evaluate pocket --benchmark pocket

    mixtune evaluate pocket --adapter runs/demo/mixlora --benchmark pocket --per-task 20

    mixtune evaluate llava-hf/llava-1.5-7b-hf --adapter runs/mine --benchmark mine.jsonl --out runs/mine/evaluation

Writes results.json (accuracy with Wilson intervals beside chance) and samples.jsonl (every question and answer). An
interrupted evaluation goes on where it stopped.
"""

REPORT_HELP = """Write one self-contained page about whatever lies in a folder, its numbers as JSON, and pictures.

Examples:

    mixtune report runs/demo                   (evaluated models: runs/demo/*/evaluation)

    mixtune report runs/compare                (a comparison, and analyses of its runs)

    mixtune report runs/demo/lora/interference --out interference-page.html

A section appears for everything that is found: evaluations of single models, comparison.json, and interference.json and
routing.json anywhere below the folder. docs/report.md says how to read each.
"""


class Way(str, Enum):
    """Which answers count."""

    rank = "rank"
    greedy = "greedy"


@app.command("evaluate", help=EVALUATE_HELP)
def evaluate_command(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or `pocket`.")],
    benchmark: Annotated[list[str], typer.Option("--benchmark", "-b", help="`pocket` or a file of samples.")],
    adapter: Annotated[
        Path | None, typer.Option("--adapter", "-a", help="Folder of a run: adapter, projector or weights.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Default ADAPTER/evaluation, else runs/MODEL/evaluation.")
    ] = None,
    per_task: Annotated[int | None, typer.Option("--per-task", min=1, help="Only the first N of a task.")] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be given again.")] = None,
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
            {"model": model, "benchmarks": tuple(benchmark), "adapter": adapter, "tasks": tuple(task or ()), **given}
        )
        folder = out or (adapter or Path("runs") / Path(model).name) / "evaluation"
        result = evaluate_request(request, folder, batch_size=batch_size)
        print_results(Console(), {"accuracy": result.results})
        typer.echo(f"written to {result.folder}")


@app.command("report", help=REPORT_HELP)
def report_command(
    runs: Annotated[Path, typer.Argument(help="Folder of evaluated models, a comparison, or analyses.")],
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
