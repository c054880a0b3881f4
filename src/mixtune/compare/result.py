"""comparison.json: all numbers of a comparison, with what they were made of (docs/compare.md describes every key)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixtune.adapters import MixtureConfig
from mixtune.compare.arms import Arm
from mixtune.compare.estimates import LEVEL, METHODS, Estimate, accuracy, difference, holm, joint_p, permutation_p
from mixtune.compare.gather import Finished, Paired, Table, check_same_questions
from mixtune.compare.plan import Plan, Run
from mixtune.compare.published import beside_paper, protocols
from mixtune.config import Recipe
from mixtune.evaluate.settings import SPLITS

FORMAT = 1
PRINTED = ("accuracy", "total")


def results_by_size(plan: Plan, finished: Sequence[Finished]) -> list[dict[str, Any]]:
    """One entry a data size: accuracies of every arm, differences to the baseline, gaps to specialists, tasks.

    Raises ValueError if two runs were asked different questions under one name.
    """
    check_same_questions(finished)
    found = []
    for size in plan.sizes:
        mine = [each for each in finished if each.run.data_size in (size, None)]
        table = Table(mine, _expected(plan.runs(), size))
        facts = task_facts(mine)
        arms = {name: _arm_result(table, name, facts) for name in plan.arms if name in table.arms}
        for each in mine:
            if each.blind and each.run.arm in arms:
                arms[each.run.arm].setdefault("blind", {}).update(each.blind)
        base = plan.settings.baseline
        entry: dict[str, Any] = {"data_size": size, "tasks": facts, "arms": arms}
        entry["baseline"], entry["differences"] = base, differences(table, base, list(arms), facts)
        special = [name for name in arms if plan.arms[name].settings.kind == "specialists"]
        joint = [name for name in arms if plan.arms[name].settings.kind == "joint"]
        entry["gaps"] = {name: differences(table, name, joint, facts) for name in special}
        found.append(entry)
    return found


def _expected(runs: Sequence[Run], size: int | None) -> dict[str, dict[int, int]]:
    """How many runs make a seed of an arm whole."""
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for run in runs:
        if run.data_size in (size, None):
            counts[run.arm][run.seed] += 1
    return counts


def task_facts(finished: Sequence[Finished]) -> dict[str, dict[str, Any]]:
    """Domain, split, questions and chance of every task."""
    found: dict[str, dict[str, Any]] = {}
    for each in finished:
        for task, facts in each.facts.items():
            found.setdefault(task, dict(facts))
    return dict(sorted(found.items()))


def _arm_result(table: Table, arm: str, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    answers = table.answers(arm, table.tasks(arm))
    splits = {}
    for split in SPLITS:
        inside = {task: y_SQ for task, y_SQ in answers.items() if facts[task]["split"] == split}
        if inside:
            splits[split] = {**accuracy(inside).as_dict(), "tasks": len(inside), "chance": _chance(inside, facts)}
    tasks = {task: accuracy({task: y_SQ}).as_dict() for task, y_SQ in answers.items()}
    return {"seeds": table.seeds(arm), "splits": splits, "tasks": tasks}


def _chance(tasks: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> float | None:
    known = [facts[task]["chance"] for task in tasks if facts[task]["chance"] is not None]
    return float(np.mean(known)) if known else None


def differences(
    table: Table, baseline: str, arms: Sequence[str], facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Every arm minus the baseline, on the seeds, tasks and questions that both have, for each split and task.

    A split's entry has the tests; Holm's correction is over the arms, for each split apart. Empty without baseline.
    """
    if baseline not in table.arms:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for arm in arms:
        shared = [task for task in table.tasks(arm) if task in table.tasks(baseline)]
        pair = table.paired(arm, baseline, shared)
        if arm == baseline or not pair.seeds or not shared:
            continue
        splits: dict[str, Any] = {}
        for split in SPLITS:
            inside = [task for task in shared if facts[task]["split"] == split]
            if inside:
                splits[split] = _tested(pair.of(inside)) | {"tasks": len(inside)}
        tasks = {task: _gap(pair.of([task])).as_dict() for task in shared}
        found[arm] = {"seeds": pair.seeds, "splits": splits, "tasks": tasks}
    _correct(found)
    return found


def _gap(pair: Paired) -> Estimate:
    return difference(pair.first, pair.second, pair.pictures)


def _tested(pair: Paired) -> dict[str, Any]:
    gap = _gap(pair)
    p_questions, p_seeds = permutation_p(pair.first, pair.second, pair.pictures)
    tests = {"p_questions": p_questions, "p_seeds": p_seeds, "p": max(p_questions, joint_p(gap))}
    return gap.as_dict() | tests


def _correct(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Add p_holm and decided to every split of every arm."""
    for split in SPLITS:
        rows = [arm["splits"][split] for arm in found.values() if split in arm["splits"]]
        for row, p_value in zip(rows, holm([row["p"] for row in rows]), strict=True):
            row["p_holm"] = p_value
            row["decided"] = (row["low"] > 0 or row["high"] < 0) and p_value < LEVEL


def arm_facts(plan: Plan, arm: Arm, finished: Sequence[Finished]) -> dict[str, Any]:
    """What an arm is: method, sizes, parameters, steps and samples; scale and learning rate as the search left them;
    measured seconds and memory.
    """
    mine = [each for each in finished if each.run.arm == arm.name]
    recipe = mine[0].run.recipe if mine else arm.recipe
    found: dict[str, Any] = {"kind": arm.settings.kind, "stage": recipe.train.stage if arm.trains else None}
    found |= _method(recipe) if arm.trains else {"preset": None}
    found["parameters"] = arm.parameters.as_dict() if arm.parameters else None
    found["solved"] = arm.solved.as_dict() if arm.solved else None
    found["learning_rate"] = recipe.train.learning_rate if arm.trains else None
    runs = [run for run in plan.runs() if run.arm == arm.name]
    found |= {"models": len({run.task for run in runs}), "steps": sorted({run.steps for run in runs})}
    found["specialist_steps"] = arm.settings.specialist_steps if arm.settings.kind == "specialists" else None
    return found | _measured(mine, found["models"])


def _method(recipe: Recipe) -> dict[str, Any]:
    """Preset, scale s, r, and E where there is something to choose from."""
    if recipe.adapter is None:
        return {"preset": None}
    config = MixtureConfig(preset=recipe.adapter.preset, **recipe.adapter.overrides)
    choosing = {"conditional": "num_factors", "linear": "num_experts"}.get(config.router)
    sizes = {choosing: config.size} if choosing else {}
    return {"preset": recipe.adapter.preset, "scale": config.scale, "r": config.r, **sizes}


def _measured(mine: Sequence[Finished], models: int) -> dict[str, Any]:
    """Means over an arm's runs, times its models: seconds; samples trained on; the largest peak of memory."""
    trained = [each.trained for each in mine if each.trained]
    metrics = [each["metrics"] for each in trained]
    peaks: dict[str, int] = {}
    for each in trained:
        for place, value in each.get("peak_memory", {}).items():
            peaks[place] = max(value, peaks.get(place, 0))

    def whole(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) * models if values else None

    return {
        "samples": whole([each["samples"] for each in metrics if "samples" in each]),
        "train_seconds": whole([each["seconds"] for each in metrics if "seconds" in each]),
        "evaluate_seconds": whole([each.results["seconds"] for each in mine]),
        "peak_memory": peaks or None,
    }


def matched(plan: Plan) -> list[str]:
    """Sentences that say what is equal in all arms and what is not."""
    settings, base = plan.settings, plan.arms[plan.settings.baseline]
    train = base.recipe.train
    batch = train.per_device_train_batch_size * train.gradient_accumulation_steps
    steps = ", ".join(
        f"{plan.steps(base, size):,}" + (f" ({size} samples a task)" if size else "") for size in plan.sizes
    )
    lines = [f"Every arm takes {steps} optimizer steps of {batch} samples."] if settings.match == "steps" else []
    if settings.match == "none":
        lines.append(f"Nothing is matched; the baseline takes {steps} optimizer steps of {batch} samples.")
    for name, arm in plan.arms.items():
        if arm.settings.kind == "specialists":
            share = (
                "all these steps" if arm.settings.specialist_steps == "matched" else "its task's share of these steps"
            )
            lines.append(f"{name}: each specialist takes {share}, on its task alone.")
        if arm.settings.samples != 1:
            lines.append(f"{name}: {arm.settings.samples:g} times the steps, so as many times the samples.")
    methods = {name: _method(arm.recipe) for name, arm in plan.arms.items() if arm.trains}
    scales = {name: method["scale"] for name, method in methods.items() if "scale" in method}
    common = max(set(scales.values()), key=list(scales.values()).count) if scales else None
    others = ", ".join(f"{name} {scale:g}" for name, scale in scales.items() if scale != common)
    if common is not None:
        before = "before the search, " if settings.search else ""
        lines.append(f"Scale: {before}{common:g} in every adapter" + (f", but {others}." if others else "."))
    return lines


def published(plan: Plan, results: Sequence[Mapping[str, Any]], finished: Sequence[Finished]) -> dict[str, Any] | None:
    """The protocol's source and, for every arm with a row in the paper, both rows; of the last data size."""
    if plan.settings.protocol is None:
        return None
    arms = results[-1]["arms"] if results else {}
    means = {name: {task: row["mean"] for task, row in arm["tasks"].items()} for name, arm in arms.items()}
    known = protocols()[plan.settings.protocol]
    last = [each for each in finished if each.run.data_size in (plan.sizes[-1], None)]
    rows = beside_paper(plan.settings.protocol, plan.arms, means, {name: official(last, name) for name in arms})
    return {"protocol": plan.settings.protocol, "source": known["source"], "url": known["url"], "rows": rows}


def official(finished: Sequence[Finished], arm: str) -> dict[str, float]:
    """By public benchmark the number of its protocol that papers' tables print, a mean over an arm's runs: accuracy in
    per cent, of MME the points of perception and cognition together.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for each in finished:
        for name, table in each.results.get("benchmarks", {}).items() if each.run.arm == arm else ():
            number = next((table["numbers"][key] for key in PRINTED if key in table["numbers"]), None)
            if number is not None:
                found[name].append(number["value"] * (100 if number["unit"] == "share" else 1))
    return {name: float(np.mean(values)) for name, values in found.items()}


def describe(
    plan: Plan, results: list[dict[str, Any]], finished: Sequence[Finished], rest: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole of comparison.json; `rest` is what only the run knows (arms, search, runs, command, versions, ...)."""
    return {
        "format": FORMAT,
        "way": plan.settings.evaluate.way,
        "seeds": list(plan.settings.seeds),
        "data_sizes": list(plan.settings.data_sizes),
        "matched": matched(plan),
        "methods": METHODS,
        "results": results,
        "published": published(plan, results, finished),
        **rest,
    }
