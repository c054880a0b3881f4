"""Where jobs run: side by side on this machine, or on a Ray cluster. Either way each is a process of its own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import torch

from mixtune.compare.failures import HEADED
from mixtune.compare.jobs import Job, Launch, Outcome, attempt

RAY_HINT = "--ray: Ray is not installed; pip install 'mixtune[ray]'"
DEVICES = "CUDA_VISIBLE_DEVICES"
PASSED_ON = ("PYTHONPATH", "MIXTUNE_HOME", "HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TOKENIZERS_PARALLELISM")


class Pool(Protocol):
    """Runs jobs and hands over each outcome as soon as it is there; `about` says where they run."""

    about: str

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcomes in the order in which jobs end. What runs when the iteration is given up is ended."""


def thread_share(workers: int) -> int:
    """Threads of each of `workers` processes: the cores that are ours divided among them, at least one."""
    return max(1, usable_cores() // workers)


def usable_cores(limits: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those it is bound to, and no more than its container's share of time gives.

    limits: where Linux tells that share, as "cpu.max" with quota and period in microseconds (version 2 of cgroups) or
    as two files (version 1).
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((limits / name).read_text() for name in names).split()
            share = int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max" for no limit
            continue
        return min(bound, math.ceil(share)) if share > 0 else bound
    return bound


def thread_variables(threads: int) -> dict[str, str]:
    """What tells the numerical libraries of a process how many threads it may use."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def visible_gpus() -> list[str]:
    """The GPUs that processes started here may use, as CUDA_VISIBLE_DEVICES names them; empty without any."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(DEVICES, "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


class Launcher:
    """Starts commands of mixtune as processes and ends those still running when told to."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def __call__(self, words: Sequence[str], log: Path, variables: Mapping[str, str], lock: int) -> int:
        """Run `python -m mixtune` with `words`, appending what it prints to `log`; returns its exit status."""
        with log.open("ab") as file:
            file.write(f"{HEADED}{' '.join(words)}\n".encode())
            file.flush()
            with self._lock:
                if self._stopped:
                    return 1
                process = subprocess.Popen(
                    [sys.executable, "-m", "mixtune", *words], stdout=file, stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL, pass_fds=(lock,),
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
                )  # fmt: skip
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """End what runs and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


class LocalPool:
    """`workers` jobs at a time on this machine, each with `threads` threads, by default its share of the machine's.

    Where there are several GPUs, each worker has one of them, in turn: one run never spreads over two, and no GPU has
    two workers more than another. One GPU is shared by all.
    """

    def __init__(self, workers: int = 1, launch: Launch | None = None, threads: int | None = None):
        self.workers, self.launch, threads = workers, launch, threads or thread_share(workers)
        gpus = visible_gpus()
        places = [{DEVICES: gpus[number % len(gpus)]} if len(gpus) > 1 else {} for number in range(workers)]
        self.variables = [{**thread_variables(threads), **place} for place in places]
        self.about = f"{workers} at a time on this machine, {threads} thread(s) each"
        if gpus:
            self.about += f", on {len(gpus)} GPUs in turn" if len(gpus) > 1 else ", on one GPU"

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """See `Pool`."""
        launcher, free = Launcher(), SimpleQueue[Mapping[str, str]]()
        for variables in self.variables:
            free.put(variables)

        def work(job: Job) -> Outcome:
            variables = free.get()
            try:
                return attempt(job, self.launch or launcher, variables)
            finally:
                free.put(variables)

        with ThreadPoolExecutor(self.workers) as threads:
            running = [threads.submit(work, job) for job in jobs]
            try:
                for ended in as_completed(running):
                    yield ended.result()
            finally:
                launcher.stop()
                for each in running:
                    each.cancel()


class RayPool:
    """Jobs on a Ray cluster at `address` ("local" starts one here); every machine must see the same files.

    A job asks for `threads` CPUs and, where the cluster has GPUs, one of them. Raises ValueError with the pip line if
    Ray is not installed.
    """

    def __init__(self, address: str, threads: int = 1):
        try:
            import ray
        except ImportError as error:
            raise ValueError(RAY_HINT) from error
        self.ray = ray
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        ray.init(
            address=None if address == "local" else address, ignore_reinit_error=True, log_to_driver=False,
            runtime_env={"env_vars": variables}, include_dashboard=False if address == "local" else None,
        )  # fmt: skip
        self.resources: dict[str, Any] = {"num_cpus": threads, "max_retries": 0}
        if ray.cluster_resources().get("GPU"):
            self.resources["num_gpus"] = 1
        self.variables = thread_variables(threads)
        self.about = f"on the Ray cluster at {address}, {threads} thread(s) each"

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """See `Pool`. A job whose machine is lost counts as failed."""
        remote = self.ray.remote(**self.resources)(_execute_there)
        waiting = {remote.remote(job, os.getcwd(), self.variables): job for job in jobs}
        try:
            while waiting:
                (ended,), _ = self.ray.wait(list(waiting), num_returns=1)
                job = waiting.pop(ended)
                try:
                    yield self.ray.get(ended)
                except self.ray.exceptions.RayError as error:
                    why = str(error).strip().splitlines()[-1]
                    yield Outcome(job=job, failed="run", reason=f"Ray: {why}", status=1)
        finally:
            for each in waiting:
                self.ray.cancel(each, force=True)


def _execute_there(job: Job, folder: str, variables: Mapping[str, str]) -> Outcome:
    """One job on a machine of the cluster, in the launcher's working folder."""
    os.chdir(folder)
    return attempt(job, Launcher(), variables)
