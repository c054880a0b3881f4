"""The training step: the same whatever the accumulation, the auxiliary loss in it, the vision tower at rest."""

import pytest
import torch
from transformers import TrainerCallback

from mixtune.data import Encoder, read_samples
from mixtune.training.assemble import build_trainer, group_tasks
from mixtune.training.parts import vision_tower
from mixtune.training.setup import prepare
from mixtune.training.trainer import RoutingHooks
from runs import build_tiny, tiny_recipe
from tolerances import TOL

OPEN = {"init_weights": False, "lora_dropout": 0.0}  # B random too, so that every part has a gradient at once


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimizer step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def make_trainer(data, folder, *, adapter, dtype="float32", **train):
    recipe = tiny_recipe(data, folder, adapter=adapter, dtype=dtype, max_grad_norm=0.0, **train)
    model, processor = build_tiny(recipe.model)
    prepared = prepare(model, recipe)
    tasks = group_tasks(read_samples(recipe.data)[0], recipe)
    trainer = build_trainer(recipe, prepared, Encoder(processor, 64), tasks)
    trainer._save_checkpoint = lambda *args: None
    trainer.add_callback(Gradients())
    return trainer


def first_gradients(trainer):
    trainer.train()
    return next(c for c in trainer.callback_handler.callbacks if isinstance(c, Gradients)).found


def assert_same(left, right, dtype=torch.float32):
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], **TOL[dtype], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("adapter", [{"preset": "mixlora", **OPEN}, {"preset": "lora", **OPEN}, None])
def test_a_step_is_the_same_for_every_accumulation(tiny_samples, tmp_path, adapter):
    data = tiny_samples(8)
    found = []
    for micro, steps in ((4, 1), (1, 4), (2, 2)):
        shape = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": steps, "max_steps": 1}
        trainer = make_trainer(data, tmp_path / f"{micro}", adapter=adapter, **shape)
        constant = trainer.hooks and RoutingHooks(  # an auxiliary loss that no split of the batch changes
            auxiliary_loss=lambda model: (
                sum(p.square().sum() for n, p in model.named_parameters() if "router" in n) + 0.0
            ),
            routers={},
        )
        trainer.hooks = constant if adapter and adapter["preset"] == "mixlora" else None
        found.append(first_gradients(trainer))
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])
    assert all(value.any() for value in found[0].values())


def test_the_auxiliary_loss_is_weighted_by_the_tokens_of_its_micro_batch(tiny_samples, tmp_path):
    trainer = make_trainer(tiny_samples(4), tmp_path / "run", adapter="mixlora", max_steps=1)
    trainer.hooks = RoutingHooks(auxiliary_loss=lambda model: torch.tensor(3.0), routers={})
    batch = trainer.data.collator(trainer.data.samples[:2])
    loss, found = trainer.compute_loss(trainer.model, batch, return_outputs=True, num_items_in_batch=10)
    expected = found.nll.sum() / 10 + 3.0 * found.nll.numel() / 10
    torch.testing.assert_close(loss, expected, **TOL[torch.float32])
    record = trainer.window.flush()
    assert record["aux_loss"] == 3.0
    assert set(record["task_loss"]) == {"colour", "yesno"}


def test_recomputed_activations_give_the_same_gradients(tiny_samples, tmp_path):
    data, found = tiny_samples(8), []
    for checkpointing in (False, True):
        trainer = make_trainer(
            data, tmp_path / str(checkpointing), adapter={"preset": "llava-mole", "r": 2, "init_weights": False},
            gradient_checkpointing=checkpointing, train_projector=False, max_steps=1,
        )  # fmt: skip
        found.append(first_gradients(trainer))
    assert_same(*found)
    assert all(value.any() for value in found[0].values())


def test_the_vision_tower_rests_and_only_the_adapter_and_projector_move(tiny_samples, tmp_path):
    trainer = make_trainer(tiny_samples(8), tmp_path / "run", adapter="mixlora", max_steps=2)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    modes = []
    tower = vision_tower(trainer.model)
    tower.register_forward_hook(lambda module, args, output: modes.append((module.training, output[0].requires_grad)))
    trainer.train()
    assert modes and set(modes) == {(False, False)}
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved and all("mixture_" in name or "multi_modal_projector.modules_to_save" in name for name in moved)


def test_bfloat16_base_trains_float32_copies_without_autocast(tiny_samples, tmp_path):
    trainer = make_trainer(tiny_samples(8), tmp_path / "run", adapter="mixlora", dtype="bfloat16", max_steps=2)
    trainer.train()
    for name, value in trainer.model.named_parameters():
        assert value.dtype == (torch.float32 if value.requires_grad else torch.bfloat16), name


def test_the_projector_has_its_own_learning_rate_and_vectors_no_decay(tiny_samples, tmp_path):
    rates = {"learning_rate": 1e-3, "projector_learning_rate": 1e-4, "weight_decay": 0.1}
    trainer = make_trainer(tiny_samples(8), tmp_path / "run", adapter="mixlora", **rates)
    groups = trainer.create_optimizer().param_groups
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    described = {
        (group["lr"], group["weight_decay"]): {("projector" in names[id(p)], p.ndim > 1) for p in group["params"]}
        for group in groups
    }
    assert described == {(1e-3, 0.1): {(False, True)}, (1e-4, 0.1): {(True, True)}, (1e-4, 0.0): {(True, False)}}
    assert all(group["fused"] for group in groups)
