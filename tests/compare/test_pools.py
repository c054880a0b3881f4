"""Jobs side by side as real processes, ended with their launcher; and on a local Ray cluster, if Ray is there."""

import importlib.util
import stat
import sys
import threading
import time

import pytest

from mixtune.compare import pools
from mixtune.compare.jobs import Job
from mixtune.compare.pools import LocalPool, RayPool, thread_share, thread_variables, usable_cores

FAKE = """#!/bin/sh
# Stands for `python -m mixtune train|evaluate ...`: it notes its words and threads, and does what they leave behind.
folder=$(dirname "$0"); name=$(basename "$4" run.yaml)
echo "$3 $OMP_NUM_THREADS" >> "$folder/told"
echo "$(basename "$(dirname "$4")") $3 ${CUDA_VISIBLE_DEVICES-unset}" >> "$folder/placed"
if [ -e "$(dirname "$4")/dies" ]; then echo "CUDA out of memory"; . "$(dirname "$4")/dies"; fi
sleep SECONDS
case "$3" in
  train) echo '{}' > "$(dirname "$4")/train_result.json"; touch "$(dirname "$4")/adapter_model.safetensors" ;;
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


def die(folder, how):
    """A job whose training ends by the shell's command `how`."""
    made = job(folder)
    (folder / "dies").write_text(how)
    return made


def test_a_run_that_dies_stops_no_other_and_says_why(python, tmp_path):
    told = python(0)
    jobs = [die(tmp_path / "a", "exit 3"), die(tmp_path / "b", "kill -9 $$"), job(tmp_path / "c")]
    (tmp_path / "d").write_text("a file where the run's folder should be")
    jobs += [Job(**{**vars(jobs[-1]), "folder": str(tmp_path / "d")})]
    ended = {outcome.job.path.name: outcome for outcome in LocalPool(2).run(jobs)}
    found = {name: (each.failed, each.reason, each.status) for name, each in ended.items()}
    assert found["a"] == ("train", "CUDA out of memory", 3) and found["c"] == ("", "", 0)
    assert found["b"] == ("train", "ended by SIGKILL, as a system out of memory does", -9)
    assert found["d"][0] == "run" and "FileExistsError" in found["d"][1]
    for name in "ab":
        (tmp_path / name / "dies").unlink()
    told.unlink()
    again = list(LocalPool(2).run(jobs[:3]))
    assert sorted(each.job.path.name for each in again if not each.kept) == ["a", "b"]
    assert sorted(line.split()[0] for line in told.read_text().splitlines()) == ["evaluate"] * 2 + ["train"] * 2


@pytest.mark.parametrize(
    ("count", "named", "devices", "words"),
    [
        (0, None, {"unset"}, "each"),
        (1, None, {"unset"}, "each, on one GPU"),
        (2, None, {"0", "1"}, "on 2 GPUs in turn"),
        (2, "5,GPU-7", {"5", "GPU-7"}, "on 2 GPUs in turn"),
        (1, "3", {"3"}, "each, on one GPU"),
    ],
)
def test_each_worker_has_a_gpu_of_its_own_where_there_are_several(
    count, named, devices, words, python, tmp_path, monkeypatch
):
    python(0.05)
    monkeypatch.setattr(pools.torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    pool = LocalPool(3)
    assert pool.about.endswith(words)
    assert not any(outcome.failed for outcome in pool.run([job(tmp_path / name) for name in "abcdef"]))
    rows = [line.split() for line in (tmp_path / "placed").read_text().splitlines()]
    assert len(rows) == 12 and {device for _, _, device in rows} <= devices
    assert all(len({device for name, _, device in rows if name == run}) == 1 for run in "abcdef")
    assert [place.get("CUDA_VISIBLE_DEVICES") for place in pool.variables] == [
        sorted(devices)[number % 2] if count > 1 else None for number in range(3)
    ]


def test_every_worker_has_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(pools, "usable_cores", lambda: 16)
    assert [thread_share(workers) for workers in (1, 3, 8, 12, 16, 40)] == [16, 5, 2, 1, 1, 1]
    assert LocalPool(5).variables[0]["OMP_NUM_THREADS"] == "3" and len(LocalPool(5).variables) == 5


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "1600000 100000\n"}, 16),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "9000000 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "800000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
    ],
)
def test_a_container_has_its_share_of_the_cores(files, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(pools.os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


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
