"""The life of one run: what is executed, what is not repeated, and what a kill leaves."""

import fcntl
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

from mixtune.compare.asked import AskedFor
from mixtune.compare.jobs import LOCK_FILE, Job, JobMaker, execute, held, is_held
from mixtune.compare.plan import Run
from mixtune.compare.settings import JudgeSettings
from mixtune.config import Recipe


def job(folder, train="t", ask="a", anew=False):
    asks = {"evaluation": ("evaluate", "m", "--out", str(folder / "evaluation"))}
    made_of = {"train": train, "ask": ask}
    return Job(label="x", folder=str(folder), train="text", asks=asks, made_of=made_of, steps=1, anew=anew)


class Fake:
    """Does what the commands do to a folder; a command in `fails` leaves nothing and returns 1."""

    def __init__(self, *fails):
        self.fails, self.told = fails, []

    def __call__(self, words, log, variables, lock):
        self.told.append(" ".join((words[0], *(["--no-resume"] if "--no-resume" in words else []))))
        if words[0] in self.fails:
            return 1
        if words[0] == "train":
            (log.parent / "train_result.json").write_text("{}")
            (log.parent / "adapter_model.safetensors").touch()
        else:
            (log.parent / "evaluation").mkdir(exist_ok=True)
            (log.parent / "evaluation" / "results.json").write_text("{}")
        return 0


def test_a_finished_job_is_kept(tmp_path):
    fake = Fake()
    assert not execute(job(tmp_path), fake, {}).kept and fake.told == ["train", "evaluate"]
    assert (tmp_path / "run.yaml").read_text() == "text" and job(tmp_path).done()
    assert execute(job(tmp_path), fake, {}).kept and len(fake.told) == 2


def test_what_failed_is_done_again_and_what_succeeded_is_not(tmp_path):
    failing = Fake("evaluate")
    outcome = execute(job(tmp_path), failing, {})
    assert (outcome.failed, outcome.status) == ("evaluate", 1) and not job(tmp_path).done()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"
    fake = Fake()
    assert not execute(job(tmp_path), fake, {}).failed and fake.told == ["evaluate"]


def test_other_questions_are_asked_without_training_again(tmp_path):
    execute(job(tmp_path), Fake(), {})
    fake = Fake()
    execute(job(tmp_path, ask="other"), fake, {})
    assert fake.told == ["evaluate"]


def test_a_missing_file_is_made_again(tmp_path):
    execute(job(tmp_path), Fake(), {})
    (tmp_path / "evaluation" / "results.json").unlink()
    assert not job(tmp_path).done()
    (tmp_path / "train_result.json").unlink()
    fake = Fake()
    execute(job(tmp_path), fake, {})
    assert fake.told == ["train", "evaluate"]


def test_a_copy_without_weights_repeats_nothing_that_is_done_and_trains_what_is_not(tmp_path):
    execute(job(tmp_path), Fake(), {})
    (tmp_path / "adapter_model.safetensors").unlink()
    assert job(tmp_path).done() and execute(job(tmp_path), Fake(), {}).kept
    fake = Fake()
    execute(job(tmp_path, ask="other"), fake, {})
    assert fake.told == ["train --no-resume", "evaluate"] and job(tmp_path, ask="other").done()


def test_another_run_is_discarded_also_when_that_is_interrupted(tmp_path):
    execute(job(tmp_path), Fake(), {})
    changed = job(tmp_path, train="other", anew=True)
    execute(changed, Fake("train"), {})  # killed before the old run's files were removed
    again = replace(changed, anew=False)
    assert not again.trained() and not again.done()
    fake = Fake()
    execute(again, fake, {})
    assert fake.told == ["train --no-resume", "evaluate"] and again.done()


def test_an_untuned_model_is_only_asked(tmp_path):
    fake = Fake()
    execute(replace(job(tmp_path, train=""), train=None), fake, {})
    assert fake.told == ["evaluate"] and not (tmp_path / "run.yaml").exists()


def test_a_folder_is_held_by_one_process_and_by_its_children_after_it(tmp_path):
    def free():
        with (tmp_path / LOCK_FILE).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    assert not is_held(tmp_path)  # nothing has run there yet
    with held(tmp_path) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
        assert not free() and is_held(tmp_path)
    assert not free() and is_held(tmp_path)  # the launcher has let go (as a killed one does), its child has not
    child.communicate(b"\n")
    assert free() and not is_held(tmp_path)


def test_a_run_is_asked_its_own_task_or_those_that_were_chosen(tmp_path):
    train = {"output_dir": "o", "learning_rate": 1e-3, "stage": "align"}
    recipe = Recipe.model_validate(
        {"model": {"name_or_path": "m"}, "data": {"sources": [{"path": "d"}]}, "train": train}
    )

    def asked(tasks, of=None):
        judge = JudgeSettings(benchmarks=("b",), tasks=tasks)
        run = Run(arm="a", seed=0, folder=tmp_path, recipe=recipe, benchmarks=("b",), steps=1, task=of)
        made = JobMaker(judge=judge, data=lambda run: "", questions={("b",): AskedFor(digest="", tasks=("p", "q"))})
        words = made.job(run).asks["evaluation"]
        return [after for word, after in pairwise(words) if word == "--task"]

    assert asked(()) == [] and asked(("p", "q", "unseen")) == ["p", "q"]  # these questions have no unseen task
    assert asked((), of="q") == asked(("p", "q"), of="q") == ["q"]
