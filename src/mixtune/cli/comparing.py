"""The command that holds methods against each other: `compare`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixtune.cli.base import app, set_threads, user_errors

if TYPE_CHECKING:
    from mixtune.compare import Names
    from mixtune.data import Sample

COMPARE_HELP = """Hold methods against each other: arms × seeds (× data sizes) from one file, with intervals and tests.

Examples:

    mixtune compare recipes/pocket/compare.yaml --dry-run     (check everything, print the plan and its cost)

    mixtune compare recipes/pocket/compare.yaml --workers 2

    mixtune compare mine.yaml seeds=[0,1,2,3,4] base.train.max_steps=200     (change keys of the file)

    mixtune compare mine.yaml --ray auto     (on a Ray cluster whose machines share the folder)

Every run is a process of its own with its own folder, OUT/ARM/seed-N. The same command given again goes on where it
stopped and repeats nothing; new arms and seeds are added to what is there. Writes comparison.json, .csv, .md and
report.html.
Exit status 1: a run failed (the others are finished and judged); 2: the comparison cannot be run.
"""


def pocket_names() -> Names:
    """Names of recipes and benchmarks as `train` and `evaluate` understand them."""
    from mixtune.compare import Names
    from mixtune.evaluate.asking import EvaluationRequest, questions
    from mixtune.pocket import resolve
    from mixtune.pocket.benchmark import TABLE

    def asked(benchmarks: Sequence[str], per_task: int | None) -> list[Sample]:
        request = EvaluationRequest(model="", benchmarks=tuple(benchmarks), per_task=per_task)
        return questions(request, TABLE).samples

    return Names(recipe=resolve, questions=asked)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Within the block SIGTERM does what Ctrl-C does: the runs are ended too, instead of being left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _page(folder: Path) -> Path:
    """The report of a comparison's folder."""
    from mixtune.analyse import ReportSettings, write_report

    settings = ReportSettings(command=f"mixtune report {folder}")
    return write_report(folder, folder / "report.html", settings)


@app.command("compare", help=COMPARE_HELP)
def compare_command(
    recipe: Annotated[Path, typer.Argument(help="YAML comparison.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value ...", metavar="[KEY=VALUE]...")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; default output_dir of the file.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Runs at a time on this machine.")] = 1,
    ray: Annotated[str | None, typer.Option("--ray", help="Address of a Ray cluster; `local` starts one.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a run; default its share of this machine, with --ray 1.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, print the plan, keep nothing.")] = False,
    discard_changed: Annotated[
        bool, typer.Option("--discard-changed", help="Run again what the folder holds of other settings.")
    ] = False,
) -> None:
    """Run, print the tables and leave with status 1 if a run failed."""
    from rich.console import Console

    with user_errors():
        from mixtune.compare import Comparer, LocalPool, Plan, RayPool, load_comparison
        from mixtune.compare.dryrun import dry_run as rehearse
        from mixtune.compare.pools import thread_share
        from mixtune.compare.run import show_ended
        from mixtune.config import expand_path

        loaded = load_comparison(recipe, overrides or [])
        names, folder = pocket_names(), out or Path(expand_path(loaded.settings.output_dir))
        if dry_run:
            set_threads(threads or (1 if ray else thread_share(workers)))  # as many as a run will have
            rehearse(Plan(loaded, names, folder), names, Console(highlight=False))
            return
        made = Comparer(
            loaded=loaded, names=names, out=folder, discard_changed=discard_changed,
            pool=RayPool(ray, threads or 1) if ray else LocalPool(workers, threads=threads),
            command=" ".join(["mixtune", *sys.argv[1:]]),
        )  # fmt: skip
        with sigterm_as_interrupt():
            ended = made.run()
        show_ended(ended, Console(), typer.echo)
        if any(entry["arms"] for entry in ended.result["results"]):
            typer.echo(f"the report is {_page(folder)}")
    if ended.failed:
        raise typer.Exit(1)
