"""The life of one run: what is executed, what is not repeated, and what a kill leaves."""

import fcntl
import json
import subprocess
import sys
from dataclasses import replace

from mixtune.compare.jobs import LOCK_FILE, Job, digest, execute, held, is_held, questions_digest
from mixtune.data import Message, Sample, fingerprint_samples
from mixtune.data.sample import ImageRef


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


def test_runs_are_known_again_where_mixtunes_folder_is_another(tmp_path, monkeypatch):
    found = []
    for home in ("here", "there"):
        monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / home))
        pictures = (ImageRef(str(tmp_path / home / "pocket" / "1.png")), ImageRef("/elsewhere/2.png"))
        sample = Sample(id="1", messages=(Message("user", "q"), Message("assistant", "a")), images=pictures, task="t")
        found.append((questions_digest([sample]), fingerprint_samples([sample])))
    assert found[0] == found[1]
    other = replace(sample, images=(ImageRef("/elsewhere/1.png"), pictures[1]))
    assert questions_digest([other]) != found[0][0] and fingerprint_samples([other]) != found[0][1]


def test_digests_tell_questions_apart():
    sample = Sample(
        id="1", messages=(Message("user", "q"), Message("assistant", "a")), images=(), task="t", options=("a", "b")
    )
    same = replace(sample, origin="elsewhere")
    assert questions_digest([sample]) == questions_digest([same])
    for other in (replace(sample, id="2"), replace(sample, options=("a",)), replace(sample, task="u")):
        assert questions_digest([sample]) != questions_digest([other])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})
