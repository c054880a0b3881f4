import pytest

from mixtune.training.plan import SHOWN_TASKS, budget, budget_lines, data_lines, model_lines
from runs import tiny_recipe


@pytest.mark.parametrize(
    ("samples", "micro", "accumulation", "epochs", "max_steps", "steps"),
    [(24, 2, 2, 2, -1, 12), (25, 2, 2, 1, -1, 7), (25, 2, 2, 0.5, -1, 4), (5, 4, 8, 3, -1, 3), (25, 2, 2, 1, 4, 4)],
)
def test_steps_are_counted_as_trainer_counts_them(tmp_path, samples, micro, accumulation, epochs, max_steps, steps):
    recipe = tiny_recipe(
        tmp_path / "d", tmp_path, per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs, max_steps=max_steps,
    )  # fmt: skip
    found = budget(recipe, samples)
    assert (found.steps, found.batch) == (steps, micro * accumulation)


@pytest.mark.parametrize(("save_steps", "limit", "expected"), [(3, 2, 3), (3, None, 5), (50, 2, 2)])
def test_checkpoints_at_the_fullest_moment(tmp_path, save_steps, limit, expected):
    recipe = tiny_recipe(tmp_path / "d", tmp_path, save_steps=save_steps, save_total_limit=limit)
    assert budget(recipe, 24).checkpoints(recipe) == expected


def test_the_plan_says_what_is_frozen_what_trains_and_for_how_long(tmp_path):
    recipe = tiny_recipe(tmp_path / "d", tmp_path / "out", projector_learning_rate=1e-3)
    labels = [f"task {number}" for number in range(SHOWN_TASKS + 3)] * 2
    text = "\n".join(data_lines(labels, recipe))
    assert "30 samples of 15 task(s), sampling equal" in text and "and 3 more tasks" in text and "task 0: 2" in text
    text = "\n".join(model_lines(recipe, {"factors": 1000, "routers": 500, "projector": 0, "other": 0}, 100_000))
    assert "tiny: 100,000 parameters in float32" in text and "1,500 parameters in float32 (1.50% of the base" in text
    assert "factors: 1,000" in text and "projector:" not in text
    text = "\n".join(budget_lines(recipe, budget(recipe, 24)))
    assert "12 steps of 4 samples = 2.00 epoch(s)" in text and "0.01 (projector 0.001)" in text and "out" in text
