"""The tables: nothing cut, the same numbers in every form."""

import copy
import csv
import io

from rich.console import Console

from mixtune.compare.tables import grids, per_cent, show, to_csv, to_markdown


def test_numbers_are_in_per_cent_with_their_interval():
    entry = {"mean": 0.6234, "low": 0.5, "high": 0.7}
    assert per_cent(entry) == "62.3 (50.0–70.0)" and per_cent(None) == "–"
    assert per_cent({"mean": -0.1, "low": -0.2, "high": 0.05}, sign=True) == "-10.0 (-20.0 to +5.0)"


def test_a_mean_over_fewer_tasks_says_so(finished):
    result = copy.deepcopy(finished[-1].result)
    assert "tasks only" not in to_markdown(result)
    result["results"][0]["arms"]["specialists"]["splits"]["seen"]["tasks"] = 1
    assert to_markdown(result).count(", 1 of 2 tasks only") == 1


def test_every_arm_and_task_is_shown(finished):
    console = Console(width=80, file=io.StringIO())
    show(console, finished[-1].result)
    text = console.file.getvalue()
    for words in (
        "mixlora",
        "specialists",
        "colour",
        "yesno",
        "chance",
        "p Holm",
        "minus specialists",
        "paper: LLaVA_Align",
    ):
        assert words in text, words
    assert "…" not in text


def test_markdown_has_every_table_and_how_it_was_made(finished):
    result = finished[-1].result
    text = to_markdown(result)
    for grid in grids(result):
        assert f"**{grid.title}**" in text and f"| {' | '.join(grid.rows[0])} |" in text
    assert "- p_seeds: " in text and "Every arm takes 3" in text


def test_csv_repeats_the_numbers(finished):
    result = finished[-1].result
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    arms = result["results"][0]["arms"]
    assert len(rows) == sum(len(arm["tasks"]) + len(arm["splits"]) for arm in arms.values())
    for row in rows:
        known = arms[row["arm"]]["tasks"].get(row["task"]) or arms[row["arm"]]["splits"][row["split"]]
        assert abs(float(row["mean"]) - known["mean"]) < 1e-6
        assert (row["minus_baseline_mean"] == "") == (row["arm"] == "lora")


def test_an_arm_that_failed_is_shown_with_the_reason(finished):
    result = copy.deepcopy(finished[-1].result)
    assert "failed" not in to_markdown(result)
    del result["results"][0]["arms"]["mixlora"]
    result["results"][0]["arms"]["specialists"]["seeds"] = [1]
    result["runs"] = [row for row in result["runs"] if row["arm"] != "lora"]
    why = {"run": "mixlora seed 0", "command": "train", "status": -9, "reason": "ended by SIGKILL | odd"}
    result["failed"] = [{**why, "log": "mixlora/seed-0/log.txt"}]
    text = to_markdown(result)
    (failed,) = (grid for grid in grids(result) if grid.title.startswith("failed"))
    assert failed.rows == [["mixlora seed 0", "train", "ended by SIGKILL | odd", "mixlora/seed-0/log.txt"]]
    assert "| ended by SIGKILL \\| odd |" in text
    cells = {row[0]: row for row in next(iter(grids(result))).rows}
    assert cells["mixlora"][1] == "0 of 2" and set(cells["mixlora"][2:]) == {"–"}
    assert cells["specialists"][1] == "1 of 2" and cells["lora"][1] == "search failed"


def test_memory_is_of_the_machine_or_of_a_gpu(finished):
    result = copy.deepcopy(finished[-1].result)
    result["arms"]["lora"]["peak_memory"] = {"host": 3 * 2**30, "device": 2**29}
    result["arms"]["mixlora"]["peak_memory"] = {"host": 2**30}
    (costs,) = (grid for grid in grids(result) if grid.title.startswith("what each arm"))
    place = costs.header.index("peak RAM GiB"), costs.header.index("peak GPU GiB")
    cells = {row[0]: [row[number] for number in place] for row in costs.rows}
    assert cells["lora"] == ["3.00", "0.50"] and cells["mixlora"] == ["1.00", "–"] and cells["untuned"] == ["–", "–"]
