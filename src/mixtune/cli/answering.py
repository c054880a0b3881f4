"""Commands that question a model and show the answers: `evaluate`, `report`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mixtune.cli.base import Dtype, Threads, app, set_threads, user_errors

EVALUATE_HELP = """Question a model, with or without an adapter, and count: greedy answers and ranking of the options.

Examples:

    mixtune evaluate pocket --benchmark pocket

    mixtune evaluate pocket --adapter runs/demo/mixlora --benchmark pocket --per-task 20

    mixtune evaluate pocket --adapter runs/mine --benchmark pocket/conflict:blind     (every question, a wrong picture)

    mixtune evaluate llava-hf/llava-1.5-7b-hf --adapter runs/mine --benchmark mine.jsonl --out runs/mine/evaluation

    mixtune evaluate MODEL -b mme=/data/MME_Benchmark_release_version -b pope=/data/pope     (official files)

    mixtune evaluate MODEL -b textvqa --protocol lmms-eval     (from the hub; scored as that harness does)

    mixtune evaluate MODEL -a runs/mixlora -b pope=/data/pope --against runs/lora/evaluation     (paired test)

Benchmarks: pocket, pocket/natural, pocket/conflict, pocket/conflict-many (and splits: docs/pocket.md), as NAME; mme,
textvqa, vsr, snli-ve, cifar10, cifar100, mnist, pope, pathvqa, chartqa, docvqa, tiny-lvlm, as NAME=PATH, NAME=hf:ID or
NAME. `mixtune evaluate --list` says what each is and needs; docs/evaluation.md has the rules and how protocols differ.

Writes results.json (every number with its interval) and samples.jsonl (every question and answer), with --against also
against.json, with --max-bad left_out.jsonl. An interrupted evaluation goes on where it stopped; a folder that holds
another one is an error.
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


class Ways(str, Enum):
    """How a model answers."""

    both = "both"
    rank = "rank"
    greedy = "greedy"


def _list_benchmarks(wanted: bool) -> None:
    """Show the table of benchmarks and leave, if it is wanted."""
    if wanted:
        from rich.console import Console

        from mixtune.evaluate.console import table_of_benchmarks
        from mixtune.pocket.benchmark import TABLE

        Console().print(table_of_benchmarks(TABLE))
        raise typer.Exit


@app.command("evaluate", help=EVALUATE_HELP)
def evaluate_command(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or `pocket`.")],
    benchmark: Annotated[
        list[str], typer.Option("--benchmark", "-b", help="NAME, NAME=PATH, NAME=hf:ID, or a file of samples.")
    ],
    adapter: Annotated[
        Path | None, typer.Option("--adapter", "-a", help="Folder of a run: adapter, projector or weights.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Default ADAPTER/evaluation, else runs/MODEL/evaluation.")
    ] = None,
    per_task: Annotated[
        int | None, typer.Option("--per-task", min=1, help="N of each task, always the same, spread over its file.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be given again.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Speed and memory; in bfloat16 a few answers too.")] = 64,
    max_bad: Annotated[int, typer.Option("--max-bad", min=0, help="Skip at most N unreadable samples.")] = 0,
    images: Annotated[Path | None, typer.Option(help="Where pictures are that files or datasets only name.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="What the base is held in.")] = Dtype.bfloat16,
    attention: Annotated[str, typer.Option("--attn-implementation", help="As in transformers.")] = "sdpa",
    protocol: Annotated[
        str, typer.Option(help="Rules of public benchmarks: official, lmms-eval, vlmevalkit.")
    ] = "official",
    max_length: Annotated[int, typer.Option(min=2, help="The most tokens of a prompt, those of pictures too.")] = 1024,
    way: Annotated[Ways, typer.Option(help="Answer greedily, rank the options, or both.")] = Ways.both,
    against: Annotated[Path | None, typer.Option(help="A finished evaluation to be compared with, in pairs.")] = None,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Keep answers that are there.")] = True,
    show: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list_benchmarks, help="Show all benchmarks and leave.")
    ] = False,
) -> None:
    """Evaluate and print the tables."""
    from rich.console import Console

    with user_errors():
        from mixtune.analyse.console import print_results
        from mixtune.evaluate.against import check_finished, compare_evaluations, write_against
        from mixtune.evaluate.asking import EvaluationRequest
        from mixtune.evaluate.console import comparison_table, print_benchmarks, without_benchmarks
        from mixtune.pocket.benchmark import TABLE, evaluate_request

        set_threads(threads)
        request = EvaluationRequest(
            model=model, benchmarks=tuple(benchmark), adapter=adapter, tasks=tuple(task or ()), per_task=per_task,
            max_bad=max_bad, images=images, dtype=dtype.value, attn_implementation=attention, protocol=protocol,
            rank=way != Ways.greedy, greedy=way != Ways.rank, max_length=max_length, resume=resume,
        )  # fmt: skip
        folder = out or (adapter or Path("runs") / Path(model).name) / "evaluation"
        if against is not None:
            check_finished(against)
        result = evaluate_request(request, folder, batch_size=batch_size)
        console = Console()
        others = without_benchmarks(result.results)
        if others["tasks"]:
            print_results(console, {"accuracy": others})
        print_benchmarks(console, result.results)
        if against is not None:
            comparison = compare_evaluations(result.rows, against, TABLE)
            typer.echo(f"written to {write_against(result.folder, comparison)}")
            console.print(comparison_table(comparison))
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
