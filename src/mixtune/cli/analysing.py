"""Commands that look into a tuned model: `analyse interference`, `analyse routing`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
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

Command = Callable[..., None]


def _option(name: str, kind: Any, words: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, words], default=default)


SHARED = (
    _option("model", str, typer.Argument(help="Folder, hub id, or `pocket`.")),
    _option(
        "data",
        list[str],
        typer.Option("--data", "-d", help="File of samples, `pocket/SPLIT` or `pocket/MIX/SPLIT`; repeatable."),
    ),
    _option("adapter", Path | None, typer.Option("--adapter", "-a", help="Folder of a tuned adapter."), None),
    _option("preset", str, typer.Option(help="Method of a fresh adapter, where none is given.")),
    _option(
        "out",
        Path | None,
        typer.Option("--out", "-o", help="Folder; default ADAPTER or runs/MODEL, with the name."),
        None,
    ),
    _option(
        "unseen", list[str] | None, typer.Option("--unseen", help="The same, of tasks that were not trained on."), None
    ),
    _option("tasks", str, typer.Option(help="Only these tasks, with commas between."), ""),
    _option("max_bad", int, typer.Option("--max-bad", min=0, help="Skip at most N unreadable samples."), 0),
    _option(
        "dtype",
        Dtype | None,
        typer.Option(help="What the base is held in; default as the adapter was trained, else bfloat16."),
        None,
    ),
    _option(
        "attn_implementation",
        str | None,
        typer.Option(help="As in transformers; default as the adapter was trained, else sdpa."),
        None,
    ),
    inspect.Parameter("threads", inspect.Parameter.KEYWORD_ONLY, annotation=Threads, default=None),
)
"""The options of both analyses; the default of `preset` is each one's own."""


def _asked(name: str, given: Mapping[str, Any]) -> tuple[Any, Path]:
    """The request made of the values of SHARED, and the folder to write into, whose default ends in `name`."""
    from mixtune.analyse.subject import AnalysisRequest
    from mixtune.pocket.analysing import resolve_analysis

    set_threads(given["threads"])
    kept = {key: value for key, value in given.items() if key not in ("out", "threads")}
    words = {"tasks": _names(given["tasks"]), "dtype": given["dtype"] and given["dtype"].value}
    files = {key: tuple(given[key] or ()) for key in ("data", "unseen")}
    request = resolve_analysis(AnalysisRequest.model_validate({**kept, **words, **files}))
    folder = given["out"] or (given["adapter"] or Path("runs") / Path(given["model"]).name) / name
    folder.mkdir(parents=True, exist_ok=True)
    return request, folder


def _names(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def asking(name: str, preset: str) -> Callable[[Command], Command]:
    """Make a command of a function of (request, folder, options of its own): the options SHARED come first.

    preset: the method of a fresh adapter, where the user names none.
    """

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[2:]
        shared = [each.replace(default=preset) if each.name == "preset" else each for each in SHARED]

        def called(**given: Any) -> None:
            with user_errors():
                request, folder = _asked(name, {each.name: given.pop(each.name) for each in shared})
                command(request, folder, **given)

        listed = [*shared, *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own)]
        called.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        called.__doc__ = command.__doc__
        return called

    return decorate


def _page(path: Path) -> Path:
    """The report of an analysis' folder."""
    from mixtune.analyse import ReportSettings, write_report

    settings = ReportSettings(command=f"mixtune report {path.parent}")
    return write_report(path.parent, path.parent / "report.html", settings)


@analyse.command("interference", help=INTERFERENCE_HELP)
@asking("interference", preset="lora")
def interference_command(
    request: Any,
    folder: Path,
    layers: Annotated[str, typer.Option(help="shallow,middle,deep, or all, or numbers.")] = "shallow,middle,deep",
    linears: Annotated[str, typer.Option(help="Kinds of linears, with commas between; default all.")] = "",
    per_task: Annotated[int, typer.Option("--per-task", min=4, help="At most N samples of a task.")] = 200,
    blocks: Annotated[int, typer.Option(min=2, help="Blocks of directions, for the intervals.")] = 5,
    unit: Annotated[int, typer.Option(min=1, help="Samples whose gradients are averaged first.")] = 1,
    lookahead: Annotated[float | None, typer.Option(help="Length λ of a step: also the exact form.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Speed and memory.")] = 16,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 1000,
    keep_parts: Annotated[bool, typer.Option("--keep-parts", help="Keep what other --resamples start from.")] = False,
    seed: Annotated[int, typer.Option(help="Of the draw and the bootstrap.")] = 0,
) -> None:
    """Measure, print the summary and say where the files are."""
    from mixtune.analyse.interference import InterferenceSettings, analyse_interference
    from mixtune.analyse.interference.console import print_interference

    given = {"unit": unit, "blocks": blocks, "lookahead": lookahead, "resamples": resamples, "seed": seed}
    settings = InterferenceSettings.model_validate(
        {"layers": layers, "linears": _names(linears), "per_task": per_task, "batch_size": batch_size, **given}
    )
    path = analyse_interference(request, settings, folder, typer.echo, keep_parts=keep_parts)
    print_interference(path)
    typer.echo(f"written to {path.parent}, with a page of it: {_page(path)}")


@analyse.command("routing", help=ROUTING_HELP)
@asking("routing", preset="mixlora")
def routing_command(
    request: Any,
    folder: Path,
    layers: Annotated[
        str, typer.Option(help="With a map of their own: shallow, middle, deep, or numbers.")
    ] = "shallow,middle,deep",
    per_task: Annotated[int, typer.Option("--per-task", min=2, help="At most N samples of a task.")] = 20,
    redraws: Annotated[int, typer.Option(min=1, help="Untrained routers to hold it against.")] = 4,
    neighbours: Annotated[int, typer.Option(min=1, help="Nearest prompts that vote.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Speed and memory.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the draw, the untrained router and the maps.")] = 0,
) -> None:
    """Record, print the tables and say where the files are."""
    from mixtune.analyse.routing import RoutingSettings, analyse_routing
    from mixtune.analyse.routing.console import print_routing

    given = {"layers": layers, "per_task": per_task, "redraws": redraws, "neighbours": neighbours, "seed": seed}
    settings = RoutingSettings.model_validate({**given, "batch_size": batch_size})
    path = analyse_routing(request, settings, folder)
    print_routing(path)
    typer.echo(f"written to {path.parent}, with a page of it: {_page(path)}")
