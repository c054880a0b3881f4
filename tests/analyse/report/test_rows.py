"""Table cells: signs only where an interval leaves zero out, costs only where somebody recorded them."""

import json

from fake_runs import USUAL, fake_run
from mixtune.analyse.report.rows import accuracy_tables, budget_rows, split_order
from mixtune.analyse.runs import find_runs, read_runs


def test_tables_carry_tasks_means_and_decided_differences(tmp_path) -> None:
    runs = read_runs(find_runs(fake_run(tmp_path, USUAL)), "mixlora", "lora")
    assert split_order(runs) == ["seen", "unseen"]
    seen, unseen = accuracy_tables(runs, "rank")
    assert [row["name"] for row in seen["rows"]] == ["letter", "clock"]  # by domain, then name
    assert [cell["value"] for cell in seen["rows"][1]["cells"]] == ["90.0 %", "60.0 %", "50.0 %"]
    assert seen["mean"]["name"] == "mean of 2 tasks"
    assert (seen["mean"]["difference"]["value"], seen["mean"]["difference"]["sign"]) == ("+35.0", "▲")
    assert unseen["mean"]["difference"]["sign"] == ""
    reverse = accuracy_tables([runs[1], runs[0]], "rank")[0]["mean"]["difference"]
    assert (reverse["value"], reverse["sign"]) == ("−35.0", "▼")


def test_budget_leaves_out_what_nobody_recorded(tmp_path) -> None:
    runs = read_runs(find_runs(fake_run(tmp_path, USUAL)), "mixlora", "lora")
    rows = {row["name"]: row["values"] for row in budget_rows(runs)}
    assert rows["trained parameters, factors"] == ["1,234,567", "1,234,567", "–"]
    assert rows["training time"] == ["2 min 30 s", "2 min 30 s", "–"]
    assert rows["optimiser steps"] == ["2", "2", "–"]
    assert "trained parameters, other" not in rows and not any(name.startswith("peak") for name in rows)


def test_memory_is_of_the_machine_or_of_a_gpu(tmp_path) -> None:
    folder = fake_run(tmp_path, USUAL)
    path = folder / "lora" / "train_result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "peak_memory": {"host": 3e9, "device": 2e9}}))
    rows = {row["name"]: row["values"] for row in budget_rows(read_runs(find_runs(folder), "mixlora", "lora"))}
    assert rows["peak RAM while training"] == ["–", "3.00 GB", "–"]
    assert rows["peak GPU memory while training"] == ["–", "2.00 GB", "–"]
