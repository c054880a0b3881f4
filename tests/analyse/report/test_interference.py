"""The sentences about pairs of tasks say what the summary counts."""

from __future__ import annotations

from fake_analyses import interference
from fake_comparison import SEEN
from mixtune.analyse.report import interference as page


def test_counts_stand_beside_what_luck_gives_and_the_worst_pair_is_named() -> None:
    content = interference()
    a, b = (row for row in content["summary"] if row["name"] == "all")
    pairs, worst = page.interference_answer(content)
    assert pairs.text == (
        f"A step on one task hurts another in {a['hurts']} of 340 pairs in LoRA A (luck alone: about 8.5) and in "
        f"{b['hurts']} of 340 pairs in LoRA B (luck alone: about 8.5) by its whole 95 % interval; it helps in "
        f"{a['helps']} in A and in {b['helps']} in B."
    )
    assert worst.text == (
        "A step on letter undoes 0.60 times what bar_count gains from a step of its own (0.48 to 0.72; LoRA B, all "
        "layers). 80 of 420 pairs in A and 80 of 420 pairs in B cannot be read: the task's own gain is not told from "
        "zero with 50 samples."
    )


def test_a_pair_that_hurts_in_one_layer_only_is_said_to() -> None:
    content = interference(SEEN[:3], silent=0)
    for row in content["summary"]:
        row["worst"] = [] if row["name"] == "all" else row["worst"]
    assert "; LoRA B, deep layers only)" in page.interference_answer(content)[1].text
    for row in content["summary"]:
        row["worst"] = []
    assert page.interference_answer(content)[1].text == "No pair hurts with its whole interval."


def test_a_menu_of_many_tasks_is_cut_to_what_a_page_can_hold(monkeypatch) -> None:
    content = interference(SEEN[:3], silent=0)
    names = [task["name"] for task in content["tasks"]]
    assert len(page.menu_data(content["groups"], names)) == 7
    monkeypatch.setattr(page, "MENU_CELLS", 2 * 9 * 2)
    assert [group["name"] for group in page.menu_data(content["groups"], names)] == [
        "all chosen layers",
        "shallow (layer 5)",
    ]


def test_sides_that_cannot_be_read_are_not_counted() -> None:
    content = interference(SEEN[:3], silent=0)
    for row in content["summary"]:
        if row["side"] == "A":
            row.update(helps=0, hurts=0, unclear=0, undecided=row["pairs"])
    pairs, worst = page.interference_answer(content)
    assert "LoRA A" not in pairs.text and "6 of 6 pairs in A cannot be read" in worst.text
    for row in content["summary"]:
        row.update(undecided=row["pairs"])
    assert page.interference_answer(content)[0].text == "Of no pair of tasks it can be told whether they help or hurt."


def test_tasks_are_named_also_where_no_cell_says_anything() -> None:
    content = interference(SEEN[:3], silent=3)
    figure = page.group_figure(content["groups"][0], SEEN[:3], 1.0)
    assert all(value is None for row in figure["data"][0]["z"] for value in row)
    for axis in ("xaxis", "yaxis"):
        assert figure["layout"][axis]["categoryarray"] == list(SEEN[:3])
