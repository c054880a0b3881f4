"""Which samples give directions and which are measured, and whose files are whose."""

import pytest

from mixtune.analyse.interference.planning import PART, fingerprint, make_plan
from mixtune.analyse.interference.settings import InterferenceSettings
from mixtune.analyse.subject import Subject, Task
from mixtune.data import Message, Sample
from tiny import tiny_llava


def task(name: str, count: int) -> Task:
    samples = tuple(
        Sample(f"{name}-{n}", (Message("user", "x" * (n % 7)), Message("assistant", "y")), (), name)
        for n in range(count)
    )
    return Task(name=name, domain="", split="seen", samples=samples)


TASKS = (task("one", 40), task("two", 25))


def ids(parts) -> list[str]:
    return [sample.id for part in parts for unit in part for sample in unit.samples]


def test_halves_are_apart_and_complete() -> None:
    plan = make_plan(TASKS, InterferenceSettings(per_task=30, blocks=5))
    directions, measured = ids(plan.directions), ids(plan.measured)
    assert not set(directions) & set(measured)
    assert len(set(directions)) == len(directions) == 15 + 12
    assert len(set(measured)) == len(measured) == 15 + 13
    assert plan.samples == 30 + 25
    assert [plan.count(plan.directions, number) for number in (0, 1)] == [15, 12]
    assert all(sum(unit.task == number for unit in block) in (2, 3) for block in plan.directions for number in (0, 1))


def test_the_seed_decides() -> None:
    plans = [make_plan(TASKS, InterferenceSettings(seed=seed)) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]


def test_units_hold_one_task_and_are_whole() -> None:
    plan = make_plan(TASKS, InterferenceSettings(unit=4, blocks=3))
    units = [unit for part in (*plan.directions, *plan.measured) for unit in part]
    assert {len(unit.samples) for unit in units} == {4}
    assert all({sample.task for sample in unit.samples} == {TASKS[unit.task].name} for unit in units)


def test_the_exact_form_has_one_unit_a_block() -> None:
    plan = make_plan(TASKS, InterferenceSettings(lookahead=0.1, blocks=3))
    assert [len(block) for block in plan.directions] == [2, 2, 2]
    assert len(ids(plan.measured)) == 37 + 22


def test_parts_are_small() -> None:
    plan = make_plan((task("big", 1000),), InterferenceSettings(per_task=1000))
    assert len(plan.measured) == 4 and max(map(len, plan.measured)) <= PART


def test_tasks_with_too_few_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"each task needs 10 samples .* too few have: few \(9\)"):
        make_plan((*TASKS, task("few", 9)), InterferenceSettings(blocks=5))


def test_files_of_other_attention_code_are_others() -> None:
    model, processor = tiny_llava()
    subject, settings = Subject(model=model, processor=processor, tasks=TASKS), InterferenceSettings()
    marks = []
    for code in ("sdpa", "eager", "sdpa"):
        model.set_attn_implementation(code)
        marks.append(fingerprint(subject, [], settings))
    assert marks[0] == marks[2] != marks[1]
    assert fingerprint(subject, [], settings.model_copy(update={"resamples": 100})) == marks[0]
