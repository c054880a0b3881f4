"""Jobs side by side as real processes, ended with their launcher; and on a local Ray cluster, if Ray is there."""

import importlib.util
import stat
import sys
import threading
import time

import pytest

from mixtune.compare import pools
from mixtune.compare.jobs import Job
from mixtune.compare.pools import LocalPool, RayPool, thread_share, thread_variables

FAKE = """#!/bin/sh
# Stands for `python -m mixtune train|evaluate ...`: it notes its words and threads, and does what they leave behind.
folder=$(dirname "$0"); name=$(basename "$4" run.yaml)
echo "$3 $OMP_NUM_THREADS" >> "$folder/told"
sleep SECONDS
case "$3" in
  train) echo '{}' > "$(dirname "$4")/train_result.json" ;;
  *) mkdir -p "$5" && echo '{}' > "$5/results.json" ;;
esac
"""


def job(folder):
    folder.mkdir()
    asks = {"evaluation": ("evaluate", "m", str(folder / "evaluation"))}
    return Job(label="x", folder=str(folder), train="text", asks=asks, made_of={"train": "t", "ask": "a"}, steps=1)


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Puts a shell script in place of Python; returns the file in which it notes its words."""

    def prepare(seconds):
        script = tmp_path / "python"
        script.write_text(FAKE.replace("SECONDS", str(seconds)))
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setattr(pools.sys, "executable", str(script))
        return tmp_path / "told"

    return prepare


def test_jobs_run_side_by_side_with_their_share_of_threads(python, tmp_path):
    told, jobs = python(0.2), [job(tmp_path / name) for name in "abcd"]
    ended = list(LocalPool(2).run(jobs))
    assert len(ended) == 4 and not any(outcome.failed for outcome in ended)
    assert all(each.done() for each in jobs)
    lines = told.read_text().split("\n")[:-1]
    assert sorted(lines) == sorted(f"{what} {thread_share(2)}" for what in ("train", "evaluate") * 4)
    assert (tmp_path / "a" / "log.txt").read_text().startswith("$ mixtune train ")


def test_the_threads_of_a_run_can_be_said(python, tmp_path):
    told, pool = python(0), LocalPool(1, threads=3)
    assert all(not outcome.failed for outcome in pool.run([job(tmp_path / "a")]))
    assert told.read_text() == "train 3\nevaluate 3\n" and "3 thread(s)" in pool.about


def test_giving_up_ends_what_runs_and_starts_nothing_more(python, tmp_path):
    told = python(30)
    jobs = [job(tmp_path / name) for name in "abc"]
    outcomes, started = LocalPool(1).run(jobs), time.monotonic()

    def give_up():
        while not told.exists():
            time.sleep(0.01)
        raising.set()

    raising = threading.Event()
    threading.Thread(target=give_up).start()
    real = pools.as_completed

    def interrupted(running):
        raising.wait(20)
        raise KeyboardInterrupt
        yield from real(running)

    pools.as_completed = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            next(outcomes)
    finally:
        pools.as_completed = real
    assert time.monotonic() - started < 20
    assert told.read_text().count("\n") == 1 and not any(each.done() for each in jobs)


def test_every_worker_has_at_least_one_thread():
    assert thread_share(1) >= thread_share(2) >= thread_share(1000) == 1
    assert set(thread_variables(3).values()) == {"3"}


def test_a_missing_ray_is_named_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'mixtune\[ray\]'"):
        RayPool("local")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra `ray`)")
def test_a_comparison_runs_on_a_local_ray_cluster(tmp_path):
    import ray

    from compare.comparisons import comparer, comparison

    settings = comparison(tmp_path, arms={"lora": {"adapter": {"preset": "lora"}}}, seeds=[0, 1])
    made = comparer(tmp_path, settings, launch=None)
    try:
        made.pool = RayPool("local", threads=1)
        ended = made.run()
    finally:
        ray.shutdown()
    assert not ended.failed and [row["done"] for row in ended.result["runs"]] == [True, True]
    assert ended.result["results"][0]["arms"]["lora"]["seeds"] == [0, 1]
