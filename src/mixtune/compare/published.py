"""Published numbers as data, and the paper's row that belongs to an arm of the same protocol."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixtune.adapters import MixtureConfig

if TYPE_CHECKING:
    from mixtune.compare.arms import Arm

DATA = Path(__file__).with_name("published.json")


@functools.cache
def protocols() -> dict[str, Any]:
    """Every protocol by name: `source`, `url`, `notes` and `tables` of `columns` and `rows` (see published.json)."""
    return json.loads(DATA.read_text(encoding="utf-8"))


def paper_row(arm: Arm, table: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row of `table` that an arm repeats: the same model, factors and rank. None if the paper has no such row."""
    adapter, stage = arm.recipe.adapter, arm.recipe.train.stage
    # The paper's base is LLaVA after stage one, so an untuned arm is its LLaVA_Align.
    model, factors, rank = ({"full": "LLaVA_FT"}.get(stage, "") if arm.trains else "LLaVA_Align"), None, None
    if arm.trains and adapter is not None:
        config = MixtureConfig(preset=adapter.preset, **adapter.overrides)
        mixture = config.router == "conditional"
        plain = "LoRA_Specialist" if arm.settings.kind == "specialists" else "LoRA"
        model = "MixLoRA" if mixture else plain if config.router == "none" else ""
        factors, rank = (config.num_factors if mixture else None), config.r
    wanted = (model, factors, rank)
    return next((row for row in table["rows"] if (row["model"], row["factors"], row["rank"]) == wanted), None)


def beside_paper(
    protocol: str,
    arms: Mapping[str, Arm],
    means: Mapping[str, Mapping[str, float]],
    official: Mapping[str, Mapping[str, float]],
) -> list[dict]:
    """Rows to print: for every arm and table that has its row, the paper's numbers and the run's own.

    `means` gives accuracies (0 to 1) by arm and task, `official` by arm and benchmark the numbers of their protocols in
    the paper's unit, which come first. A task or benchmark belongs to a column if their names agree but for case and
    punctuation ("textvqa", "Text-VQA"); accuracies stand only in columns that the average is over, since others (MME)
    have another unit. The run's average is over the paper's columns, where it has them all.
    """
    found = []
    for table in protocols()[protocol]["tables"]:
        for name, arm in arms.items():
            row = paper_row(arm, table)
            if row is None or name not in means:
                continue
            paper = dict(zip(table["columns"], row["values"], strict=True))
            ours = _run_row(table, means[name], official.get(name, {}))
            label = {key: row[key] for key in ("model", "factors", "rank")}
            found.append({"arm": name, "table": table["name"], "row": label, "paper": paper, "run": ours})
    return found


def _run_row(
    table: Mapping[str, Any], means: Mapping[str, float], official: Mapping[str, float]
) -> dict[str, float | None]:
    """A run's number in every column of a table, None where it has none."""
    shares = {_plain(task): 100 * value for task, value in means.items()}
    numbers, over = {_plain(name): value for name, value in official.items()}, table["average"]["over"]
    found: dict[str, float | None] = {}
    for column in table["columns"]:
        share = shares.get(_plain(column)) if column in over else None
        found[column] = numbers.get(_plain(column), share)
    known = [value for value in (found[column] for column in over) if value is not None]
    found[table["average"]["column"]] = sum(known) / len(known) if len(known) == len(over) else None
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
