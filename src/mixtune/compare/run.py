"""A comparison, told as it happens: the plan, the search, the runs, and what came of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mixtune.compare.arms import with_keys
from mixtune.compare.asked import AskedFor
from mixtune.compare.gather import Finished, read_finished
from mixtune.compare.jobs import LOG_FILE, Job, JobMaker, Outcome, is_held
from mixtune.compare.loading import Loaded
from mixtune.compare.plan import Names, Plan, PlanError, Run
from mixtune.compare.pools import LocalPool, Pool
from mixtune.compare.result import arm_facts, describe, results_by_size
from mixtune.compare.search import Tried, choose, points, searched, winners
from mixtune.compare.tables import show, to_csv, to_markdown
from mixtune.config import portable, write_atomic
from mixtune.evaluate.store import write_json
from mixtune.training.environment import describe_environment

RESULT, CSV, MARKDOWN = "comparison.json", "comparison.csv", "comparison.md"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A comparison that has run: its folder, the content of comparison.json, and the runs that failed."""

    folder: Path
    result: dict[str, Any]
    failed: list[Outcome]


@dataclass(kw_only=True)
class Comparer:
    """Runs a loaded comparison in `out` on a pool; `command` is kept with the results.

    `discard_changed` runs again what the folder holds of other settings; without it that is an error which names what
    changed, before anything is run (after the search, where it depends on what the search finds).
    """

    loaded: Loaded
    names: Names
    out: Path
    pool: Pool = field(default_factory=LocalPool)
    discard_changed: bool = False
    command: str = ""
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def run(self) -> Ended:
        """Search, run, judge and write. Whatever an earlier start finished is kept and not repeated.

        A run that fails stops no other; the results are of what succeeded, without arms of whose search nothing did.
        Raises ValueError for a comparison that cannot be run at all.
        """
        plan = Plan(self.loaded, self.names, self.out)
        maker = self._maker(plan)
        tries = self._points(plan)
        names = searched(plan.settings) if plan.settings.search else []
        search = [run for name in names for run in plan.search_runs(plan.arms[name], tries[name])]
        final = [[tuned(run, point) for point in tries[run.arm]] for run in plan.runs()]
        self._check_changed(maker, [*([run] for run in search), *final])
        self.out.mkdir(parents=True, exist_ok=True)

        tried, failed = self._search(plan, maker, search)
        best = winners(plan.settings, plan.arms, tried)
        runs = [run for run in plan.runs(best) if not search or not run.trains or run.arm in best]
        self._check_changed(maker, [[run] for run in runs])
        failed += self._all(maker, runs, "runs")

        lost = {outcome.job.folder for outcome in failed}
        finished = [read_finished(run, plan.settings.evaluate.way) for run in runs if str(run.folder) not in lost]
        result = self._describe(plan, runs, finished, tried, failed)
        write_json(self.out / RESULT, result)
        write_atomic(self.out / CSV, to_csv(result))
        write_atomic(self.out / MARKDOWN, to_markdown(result))
        return Ended(folder=self.out, result=result, failed=failed)

    def _maker(self, plan: Plan) -> JobMaker:
        """What makes jobs; the questions are read once, so that unknown or unreadable ones are an error now."""
        return JobMaker(
            judge=plan.settings.evaluate,
            data=lambda run: plan.data(run.recipe, None).fingerprint,
            questions={names: AskedFor.of(samples) for names, samples in plan.questions().items()},
        )

    def _points(self, plan: Plan) -> dict[str, list[dict[str, Any]]]:
        """What the search may give each arm; one empty point where nothing is searched."""
        search = plan.settings.search
        return {name: points(search, arm) if search and arm.trains else [{}] for name, arm in plan.arms.items()}

    def _check_changed(self, maker: JobMaker, forms: Sequence[Sequence[Run]]) -> None:
        """Raise PlanError naming folders that hold another run; `forms` has for each what its run may come to be."""
        lines: list[str] = []
        for runs in forms:
            maker.changed.clear()
            for run in runs:
                maker.job(run)
            lines += [min(maker.changed, key=len)] if len(maker.changed) == len(runs) else []
        if lines and not self.discard_changed:
            raise PlanError(
                "these folders hold runs of other settings:\n  " + "\n  ".join(lines) + "\nUse another --out, "
                "undo the change, or --discard-changed to run these again."
            )

    def _search(self, plan: Plan, maker: JobMaker, runs: Sequence[Run]) -> tuple[list[Tried], list[Outcome]]:
        """(every point tried, best marked; runs that failed)."""
        if not runs:
            return [], []
        failed = self._all(maker, runs, "search runs")
        lost = {outcome.job.folder for outcome in failed}
        tried: list[Tried] = []
        for name in searched(plan.settings):
            rows = []
            for point in {str(run.point): run.point for run in runs if run.arm == name}.values():
                mine = [run for run in runs if run.arm == name and run.point == point]
                whole = all(str(run.folder) not in lost for run in mine)
                score = validation_score(mine, plan.settings.evaluate.way) if whole else None
                rows.append(Tried(arm=name, point=point, accuracy=score))
            tried += choose(rows)
        return tried, failed

    def _all(self, maker: JobMaker, runs: Sequence[Run], what: str) -> list[Outcome]:
        """Run all jobs with a bar; returns those that failed."""
        jobs = [maker.job(run) for run in runs]
        kept = [job for job in jobs if job.done()]
        todo = [job for job in jobs if job not in kept]
        self.console.print(f"{what}: {len(jobs)}, finished before: {len(kept)}; {self.pool.about}")
        failed, number = [], len(kept)
        if not todo:
            return []
        for job in todo:
            if is_held(job.path):
                self.console.print(f"{job.label}: still runs from an earlier start and is waited for; {_log(job)}")
        with run_progress(self.console) as progress:
            bar = progress.add_task(f"{number} of {len(jobs)} {what}", total=sum(map(work, todo)))
            for outcome in self.pool.run(todo):
                number += 1
                progress.update(bar, description=f"{number} of {len(jobs)} {what}", advance=work(outcome.job))
                failed += [outcome] if outcome.failed else []
                progress.console.print(told(outcome))
        return failed

    def _describe(
        self,
        plan: Plan,
        runs: Sequence[Run],
        finished: Sequence[Finished],
        tried: Sequence[Tried],
        failed: Sequence[Outcome],
    ) -> dict[str, Any]:
        done = {str(each.run.folder) for each in finished}
        rest = {
            "arms": {name: arm_facts(plan, arm, finished) for name, arm in plan.arms.items()},
            "search": [row.as_dict() for row in tried],
            "runs": [_row(run, self.out, str(run.folder) in done) for run in runs],
            "failed": [_failure(each, self.out) for each in failed],
            "ran": self.pool.about,
            "settings": self.loaded.settings.model_dump(mode="json"),
            "command": self.command,
            "commit": git_commit(),
            "environment": {name: text for name, text in describe_environment().items() if name != "home"},
        }
        whole = describe(plan, results_by_size(plan, finished), finished, rest)
        return portable(whole, self.loaded.folder)


def tuned(run: Run, point: Mapping[str, Any]) -> Run:
    """The run with what a search found for it."""
    return replace(run, recipe=with_keys(run.recipe, point))


def validation_score(runs: Sequence[Run], way: str) -> float:
    """Mean accuracy over tasks of one point's run, or of its specialists' runs together."""
    right: dict[str, Mapping[str, float]] = {}
    for run in runs:
        right |= read_finished(run, way).right
    return float(np.mean([np.mean(list(answers.values())) for answers in right.values()]))


def work(job: Job) -> int:
    """What a job counts in the bar: its steps, and as a constant its loading and its questions."""
    return job.steps + 10


def told(outcome: Outcome) -> str:
    """A line for a job that has ended."""
    if outcome.failed:
        return f"[red]failed[/red] {outcome.job.label}: {outcome.failed}: {escape(outcome.reason)}; {_log(outcome.job)}"
    if outcome.kept:
        return f"kept   {outcome.job.label}"
    return f"done   {outcome.job.label} in {outcome.seconds:.0f} s"


def _log(job: Job) -> str:
    return str(job.path / LOG_FILE)


def _failure(outcome: Outcome, out: Path) -> dict[str, Any]:
    job = outcome.job
    row = {"run": job.label, "command": outcome.failed, "status": outcome.status, "reason": outcome.reason}
    return {**row, "log": str((job.path / LOG_FILE).relative_to(out))}


def _row(run: Run, out: Path, done: bool) -> dict[str, Any]:
    row = {"arm": run.arm, "seed": run.seed, "data_size": run.data_size, "task": run.task, "steps": run.steps}
    return {**row, "folder": str(run.folder.relative_to(out)), "done": done}


def run_progress(console: Console) -> Progress:
    """A bar in steps with the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    return Progress(*columns, TimeRemainingColumn(compact=True), console=console)


def git_commit() -> dict[str, Any] | None:
    """Commit of the working folder and whether anything differs from it; None outside a repository."""
    try:
        found = [
            subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return {"hash": found[0], "dirty": bool(found[1])}


def show_ended(ended: Ended, console: Console, say: Callable[[str], None]) -> None:
    """Print the tables, then where the files are and which runs failed."""
    show(console, ended.result)
    say(f"written to {ended.folder / RESULT} (with {CSV} and {MARKDOWN})")
    for outcome in ended.failed:
        say(f"failed: {outcome.job.label} ({outcome.failed}): {outcome.reason}; see {_log(outcome.job)}")
    if ended.failed:
        say("the same command repeats only what failed")
