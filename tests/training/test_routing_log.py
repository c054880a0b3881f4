"""Routing statistics as a callback of any Trainer: what the logs, the loggers and the file get."""

import json

import pytest
from transformers import Trainer, TrainerCallback, TrainingArguments

from mixtune.training.logfile import append_record
from mixtune.training.routing_log import ROUTING_FILE, RoutingLog
from routed import adapted, batch, sample

NAMES = {"routing/entropy", "routing/evenness", "routing/dead_share"}


class Logger(TrainerCallback):
    """Stands for a logger of report_to."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(set(logs))


def trainer(folder, callbacks=(), preset="mixlora", **options):
    settings = {"max_steps": 4, "logging_steps": 2, "report_to": "none", "use_cpu": True, "save_strategy": "no"}
    rows = [sample(seed, 8 + seed, 3) for seed in range(8)]
    settings |= {"disable_tqdm": True, "remove_unused_columns": False, "per_device_train_batch_size": 2, **options}
    return Trainer(
        model=adapted(preset), args=TrainingArguments(str(folder), **settings), callbacks=list(callbacks),
        train_dataset=rows, eval_dataset=rows, data_collator=batch,
    )  # fmt: skip


def lines(folder):
    path = folder / ROUTING_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_trainers_logs_and_its_history_get_the_numbers(tmp_path):
    found = trainer(tmp_path, [RoutingLog()])
    found.train()
    history = [record for record in found.state.log_history if "loss" in record]
    assert len(history) == 2 and all(record.keys() >= NAMES for record in history)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]
    for line, record in zip(lines(tmp_path), history, strict=True):
        assert line["entropy"] == record["routing/entropy"] and line["dead_share"] == record["routing/dead_share"]
        assert set(line["tasks"]) == {"all"} and len(line["layers"]) == 14


def test_put_first_reaches_loggers_that_come_before_other_callbacks(tmp_path):
    first, second = Logger(), Logger()
    late, early = trainer(tmp_path / "a", [first, RoutingLog()]), trainer(tmp_path / "b", [second])
    RoutingLog().put_first(early)
    late.train()
    early.train()
    assert not first.seen[0] & NAMES and second.seen[0] >= NAMES


def test_evaluation_in_between_is_not_counted(tmp_path):
    kept = RoutingLog()
    trainer(tmp_path, [kept], eval_strategy="steps", eval_steps=1).train()
    trainer(tmp_path / "plain", [RoutingLog()]).train()
    assert lines(tmp_path) == lines(tmp_path / "plain") and kept.statistics.counts() == {}


@pytest.mark.parametrize(("every", "steps"), [(0, []), (3, [4]), (2, [2, 4])])
def test_one_step_in_so_many_is_watched(tmp_path, every, steps):
    kept = RoutingLog(every=every)
    found = trainer(tmp_path, [kept])
    found.train()
    assert [line["step"] for line in lines(tmp_path)] == steps
    assert (found.state.log_history[0].keys() >= NAMES) == (2 in steps)


def test_a_run_begins_its_file_and_a_resumed_one_cuts_it_back(tmp_path):
    append_record(tmp_path / ROUTING_FILE, {"step": 70})
    trainer(tmp_path, [RoutingLog()], save_strategy="steps", save_steps=2).train()
    whole = lines(tmp_path)
    assert [line["step"] for line in whole] == [2, 4]
    append_record(tmp_path / ROUTING_FILE, {"step": 6})
    trainer(tmp_path, [RoutingLog()]).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert lines(tmp_path) == whole


def test_a_plain_lora_has_nothing_to_say(tmp_path):
    found = trainer(tmp_path, [RoutingLog()], preset="lora")
    found.train()
    assert lines(tmp_path) == [] and not found.state.log_history[0].keys() & NAMES
