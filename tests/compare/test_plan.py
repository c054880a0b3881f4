"""What is run: steps, seeds, sizes, specialists, folders; and arms that cannot be held against each other."""

import json
from pathlib import Path

import pytest

from compare.comparisons import NAMES, comparison, write
from mixtune.compare import Plan, PlanError, load_comparison
from mixtune.data import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    comparison(folder)
    return folder


@pytest.fixture
def plan(root):
    def of(arms=None, **changes):
        arms = {"lora": {"adapter": {"preset": "lora"}}} | (arms or {})
        return Plan(load_comparison(write(root, comparison(root, arms=arms, **changes))), NAMES, Path("out"))

    return of


def test_every_arm_takes_the_same_steps_of_as_many_samples(plan):
    made = plan({"other": {"adapter": {"preset": "mixlora"}}, "twice": {"adapter": {"preset": "lora"}, "samples": 2}})
    runs = {(run.arm, run.seed): run for run in made.runs()}
    assert len(runs) == 6
    assert [runs[arm, 0].recipe.train.max_steps for arm in ("lora", "other", "twice")] == [3, 3, 6]
    assert len({run.recipe.train.per_device_train_batch_size for run in runs.values()}) == 1
    assert runs["lora", 1].recipe.train.seed == 1
    assert runs["lora", 1].recipe.train.output_dir == str(Path("out/lora/seed-1")) == str(runs["lora", 1].folder)


def test_epochs_become_steps(plan, root):
    base = comparison(root)["base"]
    base["train"] = {**base["train"], "max_steps": -1, "num_train_epochs": 2}
    assert {run.steps for run in plan(base=base).runs()} == {2 * 24 // 2}
    assert [run.steps for run in plan(base=base, data_sizes=[3, 5], seeds=[0]).runs()] == [2 * 6 // 2, 2 * 10 // 2]


def test_specialists_have_a_run_a_task_with_all_steps_or_their_share(plan, root):
    adapter = {"adapter": {"preset": "lora"}, "kind": "specialists"}
    base = comparison(root)["base"]
    base["data"] = {**base["data"], "sampling": "weights", "weights": {"colour": 3, "yesno": 1}}
    base["train"] = {**base["train"], "max_steps": 8}
    made = plan({"all": adapter, "some": {**adapter, "specialist_steps": "share"}}, base=base, seeds=[0])
    runs = {(run.arm, run.task): run for run in made.runs() if run.task}
    assert {key: run.steps for key, run in runs.items()} == {
        ("all", "colour"): 8, ("all", "yesno"): 8, ("some", "colour"): 6, ("some", "yesno"): 2,
    }  # fmt: skip
    assert runs["all", "colour"].recipe.data.weights == {"colour": 1.0, "yesno": 0.0}
    assert runs["all", "yesno"].folder == Path("out/all/seed-0/yesno")


def test_an_untuned_arm_is_one_run_whatever_the_seeds_and_sizes(plan):
    runs = [run for run in plan({"base": {"kind": "untuned"}}, data_sizes=[4, 8]).runs() if run.arm == "base"]
    assert len(runs) == 1 and not runs[0].trains and runs[0].steps == 0


def test_data_sizes_keep_so_many_samples_of_each_task(plan):
    made = plan(data_sizes=[4, 8], seeds=[0])
    assert [run.recipe.data.max_per_task for run in made.runs()] == [4, 8]
    assert [str(run.folder) for run in made.runs()] == ["out/lora/size-4/seed-0", "out/lora/size-8/seed-0"]
    assert [made.data(run.recipe, None).samples for run in made.runs()] == [8, 16]


def test_an_arm_with_other_steps_or_batch_is_refused_unless_nothing_is_matched(plan):
    arms = {"longer": {"train": {"max_steps": 9}, "adapter": {"preset": "lora"}},
            "wider": {"train": {"gradient_accumulation_steps": 2}, "adapter": {"preset": "lora"}}}  # fmt: skip
    with pytest.raises(PlanError) as caught:
        plan(arms)
    assert "arms.longer: takes 9 steps of 2 samples, the baseline 3 of 2" in str(caught.value)
    assert "arms.wider: takes 3 steps of 4 samples" in str(caught.value)
    assert [run.steps for run in plan(arms, match="none", seeds=[0]).runs()] == [3, 9, 3]


def test_only_chosen_tasks_are_asked_and_an_unknown_one_is_refused(plan, root):
    test, validation = ([str(root / split / "samples.jsonl")] for split in ("test", "validation"))
    judge = {"benchmarks": test, "validation": validation, "tasks": ["yesno"]}
    search = {"grid": {"scaling": [1.0, 2.0]}}
    asked = plan(evaluate=judge, search=search).questions()
    assert {sample.task for samples in asked.values() for sample in samples} == {"yesno"} and len(asked) == 2
    with pytest.raises(PlanError, match=r"evaluate\.tasks: .*'yesn'; did you mean 'yesno'"):
        plan(evaluate={**judge, "tasks": ["yesno", "yesn"]}, search=search).questions()


def test_questions_that_cannot_be_answered_are_refused_before_anything_runs(plan, root):
    free = root / "test" / "free.jsonl"
    rows = [json.loads(line) for line in (root / "test" / "samples.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if key != "options"} for row in rows if row["task"] == "colour"]
    free.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = {"benchmarks": [str(free)]}
    with pytest.raises(PlanError, match=r"evaluate\.way: rank, but questions of colour list no options; take greedy"):
        plan(evaluate=judge).questions()
    assert plan(evaluate={**judge, "way": "greedy"}).questions()
    specialists = {"alone": {"kind": "specialists", "adapter": {"preset": "lora"}}}
    with pytest.raises(PlanError, match=r"arms\.alone: .*no question of yesno; add questions .*evaluate\.tasks"):
        plan(specialists, evaluate={**judge, "way": "greedy"}).questions()
    plan(specialists, evaluate={**judge, "way": "greedy", "tasks": ["colour"]}).questions()


def test_a_budget_may_be_a_number_or_another_arm(plan):
    made = plan({
        "mixlora": {"adapter": {"preset": "mixlora"}},
        "equal": {"adapter": {"preset": "lora"}, "budget": "mixlora"},
        "full": {"train": {"stage": "full"}},
    })  # fmt: skip
    wanted = made.arms["mixlora"].parameters.adapter
    assert made.arms["equal"].solved.wanted == wanted and abs(made.arms["equal"].solved.gap) < 0.05
    assert made.arms["equal"].recipe.adapter.scaling == 2.0 and made.arms["lora"].solved is None
    made = plan({"as-is": {"adapter": {"preset": "lora", "r": 3}, "budget": "free"}}, budget=str(wanted))
    assert made.arms["lora"].solved.value == made.arms["lora"].recipe.adapter.r > 5
    assert made.arms["as-is"].recipe.adapter.r == 3


def test_a_budget_without_an_adapter_to_equal_is_refused(plan):
    with pytest.raises(PlanError, match=r"arms\.equal\.budget: arm 'full' trains no adapter"):
        plan({"full": {"train": {"stage": "full"}}, "equal": {"adapter": {"preset": "lora"}, "budget": "full"}})
    with pytest.raises(PlanError, match=r"arms\.small: budget: 5 numbers are too few"):
        plan({"small": {"adapter": {"preset": "lora"}, "budget": "5"}})


def test_missing_data_is_an_error_before_anything_runs(plan, root):
    base = comparison(root)["base"]
    base["data"] = {"sources": [{"path": str(root / "train" / "sample.jsonl")}]}
    with pytest.raises(DataError, match=r"did you mean 'samples\.jsonl'"):
        plan(base=base)
