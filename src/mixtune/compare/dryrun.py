"""The plan of a comparison in sentences, and a rehearsal: every arm trains two small steps, nothing is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rich.console import Console

from mixtune.compare.grid import Grid
from mixtune.compare.plan import Names, Plan, Run
from mixtune.compare.result import matched
from mixtune.compare.search import points, searched
from mixtune.training.dryrun import rehearse


def plan_runs(plan: Plan) -> list[Run]:
    """Search runs and final runs, the latter as they are before the search has chosen anything."""
    search = plan.settings.search
    found = []
    for name in searched(plan.settings) if search else ():
        assert search is not None
        found += plan.search_runs(plan.arms[name], points(search, plan.arms[name]))
    return [*found, *plan.runs()]


def plan_grid(plan: Plan, seconds: dict[str, float]) -> Grid:
    """What each arm is and costs; `seconds` is what one sample takes in training, by arm."""
    rows, runs = [], plan_runs(plan)
    for name, arm in plan.arms.items():
        mine = [run for run in runs if run.arm == name]
        final = [run for run in mine if run.benchmarks == plan.settings.evaluate.benchmarks]
        train = arm.recipe.train
        samples = sum(run.steps for run in mine) * train.per_device_train_batch_size * train.gradient_accumulation_steps
        solved, spent = arm.solved, arm.parameters
        rows.append(
            [
                name,
                str(len(final)),
                str(len(mine) - len(final)),
                " or ".join(f"{steps:,}" for steps in sorted({run.steps for run in final})),
                f"{solved.field} = {solved.value} (gap {solved.gap:+.1%})" if solved else "–",
                f"{sum(spent.trained.values()):,}" if spent else "0",
                f"{spent.active:,}" if spent and spent.active else "–",
                f"{samples:,}",
                f"{samples * seconds[name] / 60:.0f} min" if name in seconds else "–",
            ]
        )
    header = ["arm", "runs", "search runs", "steps a run", "solved", "trained", "active", "samples in all", "training"]
    return Grid(title="plan (training: a rough upper bound, from two small steps)", header=header, rows=rows)


def rehearse_arms(plan: Plan, names: Names, say: Callable[[str], None]) -> dict[str, float]:
    """Train two steps of every arm that trains, in a folder that is thrown away; seconds a sample took, by arm.

    Raises whatever a real run would raise, named by arm.
    """
    found, seen = {}, Counter[str]()
    for run in plan.runs():
        seen[run.arm] += 1
        if not run.trains or seen[run.arm] > 1:
            continue
        say(f"checking {run.label}")
        try:
            metrics = rehearse(names.recipe(run.recipe), lambda *lines: None)
        except ValueError as error:
            raise ValueError(f"arms.{run.arm}: {error}") from error
        found[run.arm] = metrics["seconds"] / max(metrics["samples"], 1)
    return found


def dry_run(plan: Plan, names: Names, console: Console) -> None:
    """Check everything, then print the plan, what is matched and what will be asked. Nothing is written."""
    for what, samples in zip(("questions", "validation"), plan.questions().values(), strict=False):
        tasks = Counter(sample.task for sample in samples)
        console.print(f"{what}: {len(samples):,} of {len(tasks)} task(s), {min(tasks.values())} or more of each")
        console.print(f"  {', '.join(tasks)}")
    seconds = rehearse_arms(plan, names, console.print)
    for line in matched(plan):
        console.print(line)
    plan_grid(plan, seconds).show(console)
    console.print(f"{len(plan_runs(plan))} runs; nothing was kept")
