"""One run as a process of its own: what it executes, when it is finished, and a lock that outlives its launcher.

A job writes into its folder: `run.yaml` (what is trained), `run.json` (what it was started with and whether it is
done), `log.txt` (all that its processes print), and what `mixtune train` and `mixtune evaluate` write.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixtune.analyse.runs import EVALUATION
from mixtune.compare.asked import AskedFor, digest
from mixtune.compare.failures import reason
from mixtune.compare.plan import Run
from mixtune.compare.settings import JudgeSettings
from mixtune.config import ConfigError, Recipe, dump_recipe, load_recipe, write_atomic
from mixtune.evaluate.blind import SUFFIX
from mixtune.evaluate.store import RESULTS
from mixtune.training.checkpoint import FREE_FIELDS, RESULT_FILE, changed_fields, read_json
from mixtune.training.parts import ADAPTER_FILE, PROJECTOR_FILE
from mixtune.training.whole import WEIGHTS_FILE

RUN_FILE, STATE_FILE, LOG_FILE, LOCK_FILE = "run.yaml", "run.json", "log.txt", ".lock"
BLIND = "blind"  # folder of the answers to questions with wrong pictures; others lie in EVALUATION
WEIGHT_FILES = (ADAPTER_FILE, PROJECTOR_FILE, WEIGHTS_FILE)
DISCARDING = "discarding"  # status while a run replaces another one, whose files may still be there

Launch = Callable[[Sequence[str], Path, Mapping[str, str], int], int]
"""Run a command (its words after `python -m mixtune`) with a log to append to, variables and an open lock to inherit;
returns its exit status.
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run with everything a process needs, as plain data. train: the recipe's text, None for an untuned model.
    asks: the words of `mixtune evaluate` for each folder of answers. made_of: hashes of what training and answers
    depend on.
    """

    label: str
    folder: str
    train: str | None
    asks: dict[str, tuple[str, ...]]
    made_of: dict[str, str]
    steps: int
    anew: bool = False

    @property
    def path(self) -> Path:
        """Where it writes."""
        return Path(self.folder)

    def state(self) -> dict[str, Any]:
        """What run.json says; empty if the job was never started."""
        path = self.path / STATE_FILE
        return read_json(path) if path.exists() else {}

    def trained(self) -> bool:
        """Whether its training has ended and left weights."""
        if self.train is None:
            return True
        state = self.state()
        ours = state.get("train") == self.made_of["train"] and state.get("status") != DISCARDING
        return ours and (self.path / RESULT_FILE).exists() and not self.emptied()

    def emptied(self) -> bool:
        """Whether its training has ended but the weights are gone, as in a copy made without them."""
        ended = self.train is not None and (self.path / RESULT_FILE).exists()
        return ended and not any((self.path / name).exists() for name in WEIGHT_FILES)

    def done(self) -> bool:
        """Whether nothing is left to do: it was finished with the same training and the same questions."""
        state = self.state()
        same = {key: state.get(key) for key in self.made_of} == self.made_of
        answered = all((self.path / folder / RESULTS).exists() for folder in self.asks)
        return same and state.get("status") == "done" and answered


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended: repeated nothing (`kept`), or ran for `seconds`.

    failed: the command that went wrong, "train", "evaluate", or "run" where none could be started; reason: why, in a
    line; status: what it left with.
    """

    job: Job
    kept: bool = False
    failed: str = ""
    reason: str = ""
    status: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class JobMaker:
    """Makes jobs of runs: how they are judged, what training data hash to, the questions by their benchmarks."""

    judge: JudgeSettings
    data: Callable[[Run], str]
    questions: Mapping[tuple[str, ...], AskedFor]
    discard_changed: bool = False
    changed: list[str] = field(default_factory=list)

    def job(self, run: Run) -> Job:
        """The job of a run. If its folder holds another run, `changed` gets a line saying what differs."""
        folder, asks = run.folder, self._asks(run)
        asked = [[word for word in words if not word.startswith(str(folder))] for words in asks.values()]
        made_of = {"ask": digest([asked, self.questions[run.benchmarks].digest])}
        made_of["train"] = digest([weight_fields(run.recipe), self.data(run)]) if run.trains else ""
        text = dump_recipe(run.recipe) if run.trains else None
        job = Job(label=run.label, folder=str(folder), train=text, asks=asks, made_of=made_of, steps=run.steps)
        before = job.state().get("train")
        if before in (None, made_of["train"]):
            return job
        self.changed.append(f"{folder}: {'; '.join(difference(folder / RUN_FILE, run.recipe))}")
        return Job(**{**vars(job), "anew": True})

    def _asks(self, run: Run) -> dict[str, tuple[str, ...]]:
        """The words of every evaluation of a run, by the folder of its answers."""
        model, found = run.recipe.model, {}
        for folder, suffix in ((EVALUATION, ""), (BLIND, SUFFIX)):
            words = ["evaluate", model.name_or_path, "--dtype", model.dtype]
            words += ["--attn-implementation", model.attn_implementation, "--batch-size", str(self.judge.batch_size)]
            words += [word for name in run.benchmarks for word in ("--benchmark", name + suffix)]
            words += ["--adapter", str(run.folder)] if run.trains else []
            words += [word for task in self._tasks(run) for word in ("--task", task)]
            words += ["--per-task", str(self.judge.per_task)] if self.judge.per_task else []
            found[folder] = (*words, "--way", self.judge.way, "--out", str(run.folder / folder))
        return found if run.blind else {EVALUATION: found[EVALUATION]}

    def _tasks(self, run: Run) -> tuple[str, ...]:
        """The tasks that a run is asked, where that is not all of its benchmarks."""
        if run.task:
            return (run.task,)
        return self.questions[run.benchmarks].tasks if self.judge.tasks else ()


def weight_fields(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe on which weights depend."""
    whole = recipe.model_dump(mode="json")
    for name in FREE_FIELDS:
        section, _, key = name.partition(".")
        whole[section].pop(key, None)
    return whole


def difference(path: Path, recipe: Recipe) -> list[str]:
    """What differs from the recipe that a folder's run was started with, a line a field."""
    try:
        return changed_fields(load_recipe(path), recipe) or ["its training data changed"]
    except ConfigError:
        return [f"{path.name} cannot be read"]


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold a run's folder for one process and its children; waits while somebody else does.

    The lock belongs to the open file, which children inherit: where a launcher is killed, its child keeps the lock
    until it has ended too, and the next launcher waits for it instead of writing into the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process holds a run's folder."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def execute(job: Job, launch: Launch, variables: Mapping[str, str]) -> Outcome:
    """Train and evaluate, each unless it is done; a command that fails ends the job, and its state says so."""
    started = time.monotonic()
    with held(job.path) as lock:
        if job.done():
            return Outcome(job=job, kept=True)
        training = ["train", str(job.path / RUN_FILE)]
        anew = job.anew or job.state().get("status") == DISCARDING or job.emptied()
        commands = [] if job.trained() else [[*training, "--no-resume"] if anew else training]
        if commands or job.state().get("ask") != job.made_of["ask"]:
            for folder in job.asks:  # answers of other weights or to other questions, if there are any
                shutil.rmtree(job.path / folder, ignore_errors=True)
        if job.train is not None:
            write_atomic(job.path / RUN_FILE, job.train)
        for words in (*commands, *job.asks.values()):
            _note(job, DISCARDING if anew and words[0] == "train" else "started")
            status = launch(words, job.path / LOG_FILE, variables, lock)
            if status:
                _note(job, DISCARDING if anew and words[0] == "train" else "failed")
                why = reason(status, job.path / LOG_FILE)
                spent = time.monotonic() - started
                return Outcome(job=job, failed=words[0], reason=why, status=status, seconds=spent)
        _note(job, "done")
    return Outcome(job=job, seconds=time.monotonic() - started)


def attempt(job: Job, launch: Launch, variables: Mapping[str, str]) -> Outcome:
    """`execute`, with an error of this process (a full disk, a folder that cannot be written) as a failed job too."""
    try:
        return execute(job, launch, variables)
    except Exception as error:
        return Outcome(job=job, failed="run", reason=f"{type(error).__name__}: {error}", status=1)


def _note(job: Job, status: str) -> None:
    state = {
        **job.made_of,
        "status": status,
        "label": job.label,
        "host": platform.node(),
        "python": sys.version.split()[0],
    }
    write_atomic(job.path / STATE_FILE, json.dumps(state, indent=1) + "\n")
