"""The table in the terminal."""

from __future__ import annotations

from rich.console import Console

from mixtune.analyse.console import cell, results_table


def results(share: float) -> dict:
    entry = {"accuracy": share, "low": share - 0.1, "high": min(share + 0.1, 1.0)}
    row = {"n": 567, "chance": 0.125, "rank": entry, "greedy": None}
    tasks = {"digit_handwritten": {**row, "split": "seen"}, "easy_vqa_colour": {**row, "split": "unseen"}}
    tasks |= {f"other_{number}": {**row, "split": "unseen"} for number in range(13)}
    return {"tasks": tasks, "summary": {split: {**row, "tasks": 1} for split in ("seen", "unseen")}}


def test_three_models_fit_into_eighty_columns_and_no_name_is_cut() -> None:
    console = Console(width=80, record=True, file=None)
    with console.capture() as captured:
        console.print(results_table({"untuned": results(1.0), "lora": results(1.0), "mixlora": results(0.6)}))
    text = captured.get()
    assert "digit_handwritten" in text and "mean of 14 unseen tasks" in text and "…" not in text
    line = next(line for line in text.splitlines() if "easy_vqa_colour" in line)
    assert line.split()[1:] == ["567", "12", "100", "(90–100)", "100", "(90–100)", "60", "(50–70)"]


def test_a_way_that_was_not_asked_is_a_dash() -> None:
    assert cell(None) == "–"
