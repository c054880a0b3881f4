import pytest

from mixtune.training.arguments import training_arguments
from runs import tiny_recipe


@pytest.mark.parametrize(("ratio", "steps"), [(0.0, 0), (0.03, 3), (1.0, 100)])
def test_warm_up_is_a_share_of_the_steps(tmp_path, ratio, steps):
    recipe = tiny_recipe(tmp_path / "d", tmp_path, warmup_ratio=ratio)
    assert training_arguments(recipe.train, recipe.data).get_warmup_steps(100) == steps


def test_a_recipes_settings_reach_trainer_and_nothing_is_cast_or_dropped(tmp_path):
    recipe = tiny_recipe(tmp_path / "d", tmp_path, weight_decay=0.1, lr_scheduler_type="linear", max_grad_norm=0.5)
    args = training_arguments(recipe.train, recipe.data)
    assert (args.weight_decay, args.lr_scheduler_type, args.max_grad_norm) == (0.1, "linear", 0.5)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.learning_rate) == (2, 2, 0.01)
    assert not args.bf16 and not args.fp16 and not args.remove_unused_columns and args.report_to == []
    assert (args.max_steps, args.num_train_epochs, args.save_steps, args.seed) == (-1, 2, 3, 0)
    assert args.save_total_limit is None  # old checkpoints are removed by our own, atomic rotation


def test_an_unknown_schedule_is_refused_by_name(tmp_path):
    recipe = tiny_recipe(tmp_path / "d", tmp_path, lr_scheduler_type="cosinus")
    with pytest.raises(ValueError, match="cosinus"):
        training_arguments(recipe.train, recipe.data)
