"""Wrong answers that are right for another task about the same picture, counted by hand."""

from __future__ import annotations

from mixtune.evaluate.mistaken import Mistaken, mistaken_tasks


def row(task: str, image: str | None, target: str, given: str | None, answer: str = "") -> dict:
    right = None if given is None else given == target
    more = {"answer": answer, "greedy_correct": answer == target}
    return {"task": task, "image": image, "target": target, "ranked": given, "rank_correct": right, **more}


ROWS = [
    row("max", "a", "red", "red"),
    row("max", "b", "red", "blue", answer="red"),  # what min wants of b
    row("max", "c", "red", "green", answer="Blue."),  # nobody's
    row("min", "a", "blue", "red", answer="blue"),  # what max wants of a
    row("min", "b", "blue", "blue"),
    row("min", "c", "blue", None),
    row("alone", "d", "red", "blue"),
    row("text", None, "red", "blue"),
    row("more text", None, "blue", "blue"),
]


def test_counts_by_hand() -> None:
    assert mistaken_tasks(ROWS) == {
        "max": Mistaken(n=3, right=1, of_another_task=1),
        "min": Mistaken(n=2, right=1, of_another_task=1),
    }


def test_free_answers_are_normalised() -> None:
    assert mistaken_tasks(ROWS, "greedy")["max"] == Mistaken(n=3, right=1, of_another_task=1)


def test_an_answer_that_both_tasks_want_is_right() -> None:
    agreed = [row("max", "a", "red", "red"), row("min", "a", "red", "red")]
    assert all(found == Mistaken(n=1, right=1, of_another_task=0) for found in mistaken_tasks(agreed).values())
