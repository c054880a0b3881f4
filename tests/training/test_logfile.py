import json

import torch

from mixtune.training.logfile import LogWindow, append_record, read_log, truncate_log


def add(window, nll, rows, tasks, aux=None):
    window.add(
        nll_N=torch.tensor(nll), rows_N=torch.tensor(rows), task_ids_B=torch.tensor(tasks),
        aux=None if aux is None else torch.tensor(aux),
    )  # fmt: skip


def test_losses_are_weighted_by_tokens_over_the_window():
    window = LogWindow(("a", "b", "never"))
    add(window, [1.0, 2.0, 6.0], [0, 0, 1], [0, 1], aux=0.5)
    add(window, [3.0], [0], [0], aux=2.5)
    record = window.flush()
    assert record["loss"] == 3.0
    assert record["task_loss"] == {"a": 2.0, "b": 6.0}
    assert record["task_samples"] == {"a": 2, "b": 1}
    assert record["tokens"] == 4
    assert record["aux_loss"] == (3 * 0.5 + 2.5) / 4


def test_a_flushed_window_starts_anew():
    window = LogWindow(("a",))
    add(window, [1.0], [0], [0])
    window.flush()
    add(window, [5.0], [0], [0])
    assert window.flush() == {"loss": 5.0, "tokens": 1, "task_loss": {"a": 5.0}, "task_samples": {"a": 1}}


def test_an_open_window_survives_json_bit_for_bit():
    window, again = LogWindow(("a", "b")), LogWindow(("a", "b"))
    add(window, [0.1, 1 / 3, 2 / 7], [0, 1, 1], [0, 1], aux=1 / 9)
    again.load_state_dict(json.loads(json.dumps(window.state_dict())))
    assert again.flush() == window.flush()


def test_a_log_is_cut_back_to_a_step_and_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "train_log.jsonl"
    for step in (2, 4, 6):
        append_record(path, {"step": step})
    with path.open("a") as stream:
        stream.write('{"step": 8, "lo')
    assert [record["step"] for record in read_log(path)] == [2, 4, 6]
    truncate_log(path, 4)
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n'
    truncate_log(path, 0)
    assert path.read_text() == ""


def test_a_log_that_is_not_there_has_no_records(tmp_path):
    truncate_log(tmp_path / "none.jsonl", 3)
    assert read_log(tmp_path / "none.jsonl") == []
    assert not list(tmp_path.iterdir())
