"""Commands that look into a tuned model: `analyse interference`, `analyse routing`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mixtune.cli.base import SETTINGS, Dtype, Threads, app, set_threads, user_errors

INTERFERENCE_HELP = """Measure how learning one task helps or hurts each other task, in each bank of the adapter.

Examples:

    mixtune analyse interference pocket --adapter runs/demo/lora --data pocket/train

    mixtune analyse interference my-model -a runs/mine -d mine.jsonl --layers all --linears q_proj,v_proj

    mixtune analyse interference pocket --preset mixlora -d mine.jsonl --unit 16     (per-batch gradients)

    mixtune analyse interference pocket -a runs/demo/lora -d pocket/test_seen --tasks clock_hour,bar_count
    --layers deep --linears down_proj --blocks 4 --lookahead 0.01 --dtype float32     (the exact form)

One half of each task's samples gives directions, the other is measured against them. Writes interference.json (scores
with bootstrap intervals, cosines, Gramians; docs/analyse.md says what each is), interference.png and report.html.
Costs about one training epoch over the same samples. An interrupted analysis goes on where it stopped.
"""

ROUTING_HELP = """Record which factors or experts each task's prompts choose, beside the same routers drawn anew.

Examples:

    mixtune analyse routing pocket --adapter runs/demo/mixlora --data pocket/test_seen --data pocket/test_unseen

    mixtune analyse routing my-model -a runs/mine --data mine.jsonl --unseen other-tasks.jsonl

Writes routing.json (usage, entropy, dead share, overlap, purity, maps; docs/analyse.md says what each is), routing.png,
report.html and selections.safetensors. Groups by task show up under untrained routers too: look at the control.
"""

analyse = typer.Typer(
    help="Look into a tuned model: do tasks fight, and what do routers choose?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings=SETTINGS,
)
app.add_typer(analyse, name="analyse")

Model = Annotated[str, typer.Argument(help="Folder, hub id, or `pocket`.")]
Data = Annotated[list[str], typer.Option("--data", "-d", help="File of samples, or `pocket/<split>`; repeatable.")]
Unseen = Annotated[list[str] | None, typer.Option("--unseen", help="The same, of tasks that were not trained on.")]
Adapter = Annotated[Path | None, typer.Option("--adapter", "-a", help="Folder of a tuned adapter.")]
Preset = Annotated[str, typer.Option(help="Method of a fresh adapter, where none is given.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder; default ADAPTER or runs/MODEL, with the name.")]
Tasks = Annotated[str, typer.Option(help="Only these tasks, with commas between.")]
MaxBad = Annotated[int, typer.Option("--max-bad", min=0, help="Skip at most N unreadable samples.")]
Base = Annotated[Dtype, typer.Option(help="What the base is held in.")]
Attention = Annotated[str, typer.Option("--attn-implementation", help="As in transformers.")]


@analyse.command("interference", help=INTERFERENCE_HELP)
def interference_command(
    model: Model,
    data: Data,
    adapter: Adapter = None,
    preset: Preset = "lora",
    out: Out = None,
    unseen: Unseen = None,
    tasks: Tasks = "",
    layers: Annotated[str, typer.Option(help="shallow,middle,deep, or all, or numbers.")] = "shallow,middle,deep",
    linears: Annotated[str, typer.Option(help="Kinds of linears, with commas between; default all.")] = "",
    per_task: Annotated[int, typer.Option("--per-task", min=4, help="At most N samples of a task.")] = 200,
    blocks: Annotated[int, typer.Option(min=2, help="Blocks of directions, for the intervals.")] = 5,
    unit: Annotated[int, typer.Option(min=1, help="Samples whose gradients are averaged first.")] = 1,
    lookahead: Annotated[float | None, typer.Option(help="Length λ of a step: also the exact form.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Speed and memory.")] = 16,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draw and the bootstrap.")] = 0,
    max_bad: MaxBad = 0,
    dtype: Base = Dtype.bfloat16,
    attention: Attention = "sdpa",
    threads: Threads = None,
) -> None:
    """Measure, print the summary and say where the files are."""
    with user_errors():
        from mixtune.analyse.interference import InterferenceSettings, analyse_interference
        from mixtune.analyse.interference.console import print_interference
        from mixtune.pocket.analysing import resolve_analysis

        set_threads(threads)
        given = {"unit": unit, "blocks": blocks, "lookahead": lookahead, "resamples": resamples, "seed": seed}
        settings = InterferenceSettings.model_validate(
            {"layers": layers, "linears": _names(linears), "per_task": per_task, "batch_size": batch_size, **given}
        )
        request = resolve_analysis(
            _request(
                model,
                data,
                unseen,
                tasks,
                adapter=adapter,
                preset=preset,
                max_bad=max_bad,
                dtype=dtype.value,
                attn_implementation=attention,
            )
        )
        path = analyse_interference(request, settings, _folder(out, adapter, model, "interference"), typer.echo)
        print_interference(path)
        typer.echo(f"written to {path.parent}, with a page of it: {_page(path, 'Do the tasks fight?')}")


def _request(model: str, data: list[str], unseen: list[str] | None, tasks: str, **given: Any) -> Any:
    from mixtune.analyse.subject import AnalysisRequest

    named = {"model": model, "data": tuple(data), "unseen": tuple(unseen or ()), "tasks": _names(tasks)}
    return AnalysisRequest.model_validate({**named, **given})


def _names(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _folder(out: Path | None, adapter: Path | None, model: str, name: str) -> Path:
    folder = out or (adapter or Path("runs") / Path(model).name) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _page(path: Path, title: str) -> Path:
    """The report of an analysis' folder."""
    from mixtune.analyse import ReportSettings, write_report

    settings = ReportSettings(title=title, command=f"mixtune report {path.parent}")
    return write_report(path.parent, path.parent / "report.html", settings)


@analyse.command("routing", help=ROUTING_HELP)
def routing_command(
    model: Model,
    data: Data,
    adapter: Adapter = None,
    preset: Preset = "mixlora",
    out: Out = None,
    unseen: Unseen = None,
    tasks: Tasks = "",
    layers: Annotated[str, typer.Option(help="With a map of their own: shallow, middle, deep, or numbers.")] = (
        "shallow,middle,deep"
    ),
    per_task: Annotated[int, typer.Option("--per-task", min=2, help="At most N samples of a task.")] = 20,
    redraws: Annotated[int, typer.Option(min=1, help="Untrained routers to hold it against.")] = 4,
    neighbours: Annotated[int, typer.Option(min=1, help="Nearest prompts that vote.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Speed and memory.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the draw, the untrained router and the maps.")] = 0,
    max_bad: MaxBad = 0,
    dtype: Base = Dtype.bfloat16,
    attention: Attention = "sdpa",
    threads: Threads = None,
) -> None:
    """Record, print the tables and say where the files are."""
    with user_errors():
        from mixtune.analyse.routing import RoutingSettings, analyse_routing
        from mixtune.analyse.routing.console import print_routing
        from mixtune.pocket.analysing import resolve_analysis

        set_threads(threads)
        given = {"layers": layers, "per_task": per_task, "redraws": redraws, "neighbours": neighbours, "seed": seed}
        settings = RoutingSettings.model_validate({**given, "batch_size": batch_size})
        request = resolve_analysis(
            _request(
                model,
                data,
                unseen,
                tasks,
                adapter=adapter,
                preset=preset,
                max_bad=max_bad,
                dtype=dtype.value,
                attn_implementation=attention,
            )
        )
        path = analyse_routing(request, settings, _folder(out, adapter, model, "routing"))
        print_routing(path)
        typer.echo(f"written to {path.parent}, with a page of it: {_page(path, 'What do the routers choose?')}")
