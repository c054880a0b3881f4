"""The tables of a comparison, once as plain rows, shown on a console, in Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from mixtune.compare.grid import Grid

ARMS_ABREAST = 4
DASH = "–"
PEAKS = ("peak RAM GiB", "peak GPU GiB")  # of the process; of a GPU what its tensors held


def per_cent(entry: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """A mean with its interval in per cent: `62.3 (58.1–66.0)`; with a sign, a difference in points."""
    if entry is None:
        return DASH
    form = "{:+.1f}" if sign else "{:.1f}"
    return "{} ({}{}{})".format(
        form.format(100 * entry["mean"]), form.format(100 * entry["low"]), " to " if sign else DASH,
        form.format(100 * entry["high"]),
    )  # fmt: skip


def grids(result: Mapping[str, Any]) -> Iterator[Grid]:
    """All tables of a comparison.json in the order in which they answer: who wins, by task, at what cost, how found."""
    for entry in result["results"]:
        name = f", {entry['data_size']} samples a task" if entry["data_size"] else ""
        yield _overall(entry, name, planned_seeds(result, entry["data_size"]))
        for specialists, gap in entry["gaps"].items():
            yield _gap(specialists, gap, name)
        yield from _by_task(entry, name)
    yield _costs(result["arms"])
    if result["failed"]:
        yield _failed(result["failed"])
    if result["search"]:
        yield _search(result["search"])
    if result["published"]:
        yield from _published(result["published"])


def planned_seeds(result: Mapping[str, Any], size: int | None) -> dict[str, int]:
    """How many seeds of each arm were to be run at a data size; none of an arm whose search gave nothing."""
    rows = [row for row in result["runs"] if row["data_size"] in (size, None)]
    return {arm: len({row["seed"] for row in rows if row["arm"] == arm}) for arm in result["arms"]}


def seeds_cell(finished: int, planned: int) -> str:
    """The seeds of an arm that are whole, and of how many where some are not."""
    if not planned:
        return "search failed"
    return f"{finished} of {planned}" if finished < planned else str(finished)


def _overall(entry: Mapping[str, Any], name: str, planned: Mapping[str, int]) -> Grid:
    splits = sorted({split for arm in entry["arms"].values() for split in arm["splits"]})
    base = entry["baseline"]
    header = ["arm", "seeds"]
    for split in splits:
        header += [f"{split} %", f"{split} minus {base}", "p", "p Holm", "decided"]
    rows = []
    for arm, seeds in planned.items():
        found = entry["arms"].get(arm)
        if found is None:
            rows.append([arm, seeds_cell(0, seeds), *[DASH] * (len(header) - 2)])
            continue
        row = [arm, seeds_cell(len(found["seeds"]), seeds)]
        for split in splits:
            gap = entry["differences"].get(arm, {}).get("splits", {}).get(split)
            row += [per_cent(found["splits"].get(split)) + _fewer(entry, found, split), per_cent(gap, sign=True)]
            row += [_p(gap, "p"), _p(gap, "p_holm"), ("yes" if gap["decided"] else "no") if gap else DASH]
        rows.append(row)
    chances = [_chance_row(entry, splits)]
    return Grid(title=f"mean accuracy over tasks, 95 % intervals{name}", header=header, rows=[*rows, *chances])


def _fewer(entry: Mapping[str, Any], found: Mapping[str, Any], split: str) -> str:
    """Words after a mean over fewer tasks than those of other arms, as specialists of some tasks have it."""
    counts = [arm["splits"][split]["tasks"] for arm in entry["arms"].values() if split in arm["splits"]]
    mine = found["splits"].get(split, {}).get("tasks", max(counts))
    return f", {mine} of {max(counts)} tasks only" if mine < max(counts) else ""


def _chance_row(entry: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
    row = ["chance", ""]
    for split in splits:
        known = [arm["splits"][split]["chance"] for arm in entry["arms"].values() if split in arm["splits"]]
        row += [f"{100 * known[0]:.1f}" if known and known[0] is not None else DASH, "", "", "", ""]
    return row


def _p(gap: Mapping[str, Any] | None, key: str) -> str:
    return f"{gap[key]:.4f}" if gap else DASH


def _gap(specialists: str, gap: Mapping[str, Any], name: str) -> Grid:
    rows = [
        [arm, per_cent(found["splits"].get("seen"), sign=True), _p(found["splits"].get("seen"), "p_holm")]
        for arm, found in gap.items()
    ]
    header = ["generalist", f"minus {specialists} (points)", "p Holm"]
    return Grid(title=f"generalists against specialists, on their tasks{name}", header=header, rows=rows)


def _by_task(entry: Mapping[str, Any], name: str) -> Iterator[Grid]:
    arms = list(entry["arms"])
    for start in range(0, len(arms), ARMS_ABREAST):
        some = arms[start : start + ARMS_ABREAST]
        header = ["task", "split", "n", "chance"]
        for arm in some:
            header += [arm, "blind"] if "blind" in entry["arms"][arm] else [arm]
        rows = []
        for task, facts in sorted(entry["tasks"].items(), key=lambda each: (each[1]["split"], each[0])):
            chance = DASH if facts["chance"] is None else f"{100 * facts['chance']:.0f}"
            row = [task, facts["split"], str(facts["n"]), chance]
            for arm in some:
                row.append(per_cent(entry["arms"][arm]["tasks"].get(task)))
                if "blind" in entry["arms"][arm]:
                    blind = entry["arms"][arm]["blind"].get(task)
                    row.append(f"{100 * blind['mean']:.0f}" if blind else DASH)
            rows.append(row)
        yield Grid(title=f"accuracy by task in per cent{name}", header=header, rows=rows)


def _costs(arms: Mapping[str, Mapping[str, Any]]) -> Grid:
    rows = []
    for name, facts in arms.items():
        spent, solved = facts["parameters"] or {}, facts["solved"]
        size = [f"{key} {facts[long]}" for key, long in (("r", "r"), ("E", "num_factors"), ("E", "num_experts"))
                if facts.get(long)]  # fmt: skip
        rows.append(
            [
                name,
                facts["preset"] or facts["stage"] or facts["kind"],
                ", ".join(size) + (f" (gap {solved['gap']:+.1%})" if solved else ""),
                f"{facts['scale']:g}" if facts.get("scale") else DASH,
                f"{facts['learning_rate']:g}" if facts["learning_rate"] else DASH,
                f"{spent['total']:,}" if spent else "0",
                f"{spent['active']:,}/{spent['active_per']}" if spent and spent["active"] else DASH,
                _steps(facts),
                f"{facts['train_seconds']:.0f}" if facts["train_seconds"] is not None else DASH,
                *(_gib(facts["peak_memory"], place) for place in ("host", "device")),
            ]
        )  # fmt: skip
    header = ["arm", "method", "size", "scale", "lr", "trained", "active", "steps", "train s", *PEAKS]
    return Grid(
        title="what each arm trains and costs (a mean over its runs; trained: a model's numbers)",
        header=header,
        rows=rows,
    )


def _gib(peaks: Mapping[str, int] | None, place: str) -> str:
    return f"{peaks[place] / 2**30:.2f}" if peaks and place in peaks else DASH


def _failed(rows: Sequence[Mapping[str, Any]]) -> Grid:
    shown = [[row["run"], row["command"], row["reason"], row["log"]] for row in rows]
    return Grid(title="failed (the same command runs these again)", header=["run", "command", "why", "log"], rows=shown)


def _steps(facts: Mapping[str, Any]) -> str:
    models = f" × {facts['models']}" if facts["models"] > 1 else ""
    return " or ".join(f"{steps:,}" for steps in facts["steps"]) + models


def _search(rows: Sequence[Mapping[str, Any]]) -> Grid:
    keys = list(dict.fromkeys(key for row in rows for key in row["point"]))
    shown = []
    for row in rows:
        value = DASH if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}"
        note = "chosen" if row["chosen"] else ""
        note += f", at the grid's end in {', '.join(row['at_edge'])}" if row["at_edge"] else ""
        shown.append([row["arm"], *(str(row["point"].get(key, DASH)) for key in keys), value, note])
    return Grid(title="search on the validation questions, one seed", header=["arm", *keys, "%", ""], rows=shown)


def _published(found: Mapping[str, Any]) -> Iterator[Grid]:
    for table in dict.fromkeys(row["table"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["table"] == table]
        columns = list(rows[0]["paper"])
        shown: list[list[str]] = []
        for row in rows:
            label = row["row"]
            sizes = [f"E={label['factors']}" if label["factors"] else "", f"r={label['rank']}" if label["rank"] else ""]
            shown.append(
                [
                    f"paper: {' '.join([label['model'], *filter(None, sizes)])}",
                    *(f"{row['paper'][c]:.2f}" for c in columns),
                ]
            )
            mine = [row["run"][column] for column in columns]
            shown.append([f"run: {row['arm']}", *(DASH if value is None else f"{value:.2f}" for value in mine)])
        yield Grid(
            title=f"{found['protocol']}, {table} of the paper beside the runs", header=["", *columns], rows=shown
        )


def show(console: Console, result: Mapping[str, Any]) -> None:
    """Print what was matched, then every table."""
    for line in result["matched"]:
        console.print(line, style="dim", highlight=False)
    for grid in grids(result):
        grid.show(console)
        console.print()


def to_markdown(result: Mapping[str, Any]) -> str:
    """All tables, what was matched and how the numbers were made, as one Markdown text."""
    notes = [f"- {line}" for line in result["matched"]]
    methods = [f"- {name}: {text}" for name, text in result["methods"].items()]
    return "\n".join([*notes, "", *(grid.markdown() for grid in grids(result)), *methods]) + "\n"


def to_csv(result: Mapping[str, Any]) -> str:
    """One line for each data size, arm and task, and for each mean of a split (task empty)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ["mean", "low", "high"]
    writer.writerow(["data_size", "arm", "split", "task", "seeds", *numbers, *(f"minus_baseline_{n}" for n in numbers)])
    for entry in result["results"]:
        for arm, found in entry["arms"].items():
            gaps = entry["differences"].get(arm, {"splits": {}, "tasks": {}})
            lines = [(split, "", row, gaps["splits"].get(split)) for split, row in found["splits"].items()]
            lines += [
                (entry["tasks"][task]["split"], task, row, gaps["tasks"].get(task))
                for task, row in found["tasks"].items()
            ]
            for split, task, row, gap in lines:
                values = [f"{each[key]:.6f}" if each else "" for each in (row, gap) for key in numbers]
                writer.writerow([entry["data_size"] or "", arm, split, task, len(found["seeds"]), *values])
    return text.getvalue()
