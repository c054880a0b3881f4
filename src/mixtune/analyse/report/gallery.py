"""Sample pictures with the question, the answers and the truth: a fair choice, embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mixtune.analyse.runs import Run
from mixtune.config import expand_path

CASES = ((True, False), (False, True), (True, True), (False, False))  # (first right, second right)
LONGEST_SIDE = 256  # pixels; pictures larger than this are shrunk before they are embedded


def choose_samples(runs: Sequence[Run], way: str, count: int) -> list[str]:
    """Ids to show: tasks spread evenly over the list (by split and domain), and within a task the cases "only
    the first model right", "only the second", "both", "neither" in turn, each in the order of ids. The turn,
    not the eye, decides.
    """
    first, second = ({row["id"]: row for row in run.rows} for run in (runs[0], runs[min(1, len(runs) - 1)]))
    piles: dict[tuple[str, str, str], dict[tuple[bool, bool], list[str]]] = {}
    for name in sorted(first.keys() & second.keys()):
        row = first[name]
        outcome = (bool(row.get(f"{way}_correct")), bool(second[name].get(f"{way}_correct")))
        piles.setdefault((row["split"], row["domain"], row["task"]), {}).setdefault(outcome, []).append(name)
    tasks = sorted(piles)
    shown = [tasks[number * len(tasks) // count] for number in range(count)] if len(tasks) > count else tasks
    chosen: list[str] = []
    for turn in range(count * len(CASES)):
        for shift, task in enumerate(shown):
            pile = next((case for case in _from(CASES, turn + shift) if piles[task].get(case)), None)
            if pile is not None and len(chosen) < count:
                chosen.append(piles[task][pile].pop(0))
    return chosen


def _from(cases: Sequence[tuple[bool, bool]], start: int) -> list[tuple[bool, bool]]:
    """The cases in turn, beginning at number `start`."""
    start %= len(cases)
    return [*cases[start:], *cases[:start]]


def embed_picture(path: str | Path | None) -> str | None:
    """The picture as a data URL (PNG, at most LONGEST_SIDE pixels a
    side); None if there is none or it cannot be read.
    """
    if path is None:
        return None
    try:
        with Image.open(expand_path(str(path))) as opened:
            picture = opened.convert("RGB")
    except OSError:
        return None
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def sample_cards(runs: Sequence[Run], way: str, count: int = 16) -> list[dict[str, Any]]:
    """What the page shows of each chosen sample: task, split, picture, question, truth, and every model's answer."""
    rows = {run.label: {row["id"]: row for row in run.rows} for run in runs}
    cards = []
    for name in choose_samples(runs, way, count):
        row = rows[runs[0].label][name]
        answers = [_answer(run.label, rows[run.label][name], way) for run in runs if name in rows[run.label]]
        facts = {key: row[key] for key in ("id", "task", "split", "target")}
        cards.append({**facts, "question": row["prompt"], "picture": embed_picture(row["image"]), "answers": answers})
    return cards


def _answer(label: str, row: Mapping[str, Any], way: str) -> dict[str, Any]:
    text = row.get("ranked") if way == "rank" else row.get("answer")
    return {"label": label, "text": text, "right": bool(row.get(f"{way}_correct")), "free": row.get("answer")}
