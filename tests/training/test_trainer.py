"""The training step: the same whatever the accumulation, the auxiliary loss in it, the vision tower at rest."""

import json

import pytest
import torch

from mixtune import record_routing
from mixtune.adapters.breakdown import part_of
from mixtune.data import Encoder, read_samples
from mixtune.routing.losses import entropy
from mixtune.training.assemble import build_trainer, group_tasks
from mixtune.training.logfile import LOG_FILE, read_log
from mixtune.training.parts import vision_tower
from mixtune.training.routing_log import ROUTING_FILE
from mixtune.training.setup import prepare
from mixtune.training.trainer import RoutingHooks
from runs import build_tiny, tiny_recipe
from steps import AUX, SPLITS, Gradients, assert_same, first_gradients
from tolerances import TOL

OPEN = {"init_weights": False, "lora_dropout": 0.0}  # B random too, so that every part has a gradient at once


def make_trainer(data, folder, *, adapter, dtype="float32", packing=False, **train):
    recipe = tiny_recipe(data, folder, adapter=adapter, dtype=dtype, max_grad_norm=0.0, **train)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"packing": packing})})
    model, processor = build_tiny(recipe.model)
    prepared = prepare(model, recipe)
    tasks = group_tasks(read_samples(recipe.data)[0], recipe)
    trainer = build_trainer(recipe, prepared, Encoder(processor, 64), tasks)
    trainer._save_checkpoint = lambda *args: None
    trainer.add_callback(Gradients())
    return trainer


def lengthen(path):
    """Give some samples longer answers, so that no two micro-batches weigh the same."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["messages"][1]["content"] += " or red" * (number * number % 5)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_the_auxiliary_loss_is_the_same_for_every_accumulation(tiny_samples, tmp_path, preset):
    data, found = lengthen(tiny_samples(8)), []
    for coef in (AUX, AUX, AUX, {"router_aux_loss_coef": 0.0}):
        micro, steps = SPLITS[len(found) % 3]
        shape = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": steps, "max_steps": 1}
        adapter = {"preset": preset, "r": 2, **OPEN, **coef}
        found.append(first_gradients(make_trainer(data, tmp_path / str(len(found)), adapter=adapter, **shape)))
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])
    changed = [n for n, value in found[3].items() if not torch.allclose(value, found[0][n], **TOL[torch.float32])]
    assert any("_router_A" in name for name in changed)


@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_watching_the_routers_changes_no_bit(tiny_samples, tmp_path, preset):
    found = []
    for every in (0, 1, 2):
        trainer = make_trainer(
            tiny_samples(8), tmp_path / str(every), adapter=preset, routing_stats_steps=every, max_steps=4
        )
        trainer.train()
        found.append(dict(trainer.model.named_parameters()))
        lines = read_log(tmp_path / str(every) / ROUTING_FILE)
        log = read_log(tmp_path / str(every) / LOG_FILE)
        assert [line["step"] for line in lines] == ([] if every == 0 else [record["step"] for record in log])
        assert all(("routing" in record) == bool(every) for record in log)
    assert all(torch.equal(value, other[name]) for other in found[1:] for name, value in found[0].items())


def test_the_log_holds_what_the_routers_did_since_the_last_line(tiny_samples, tmp_path):
    trainer = make_trainer(tiny_samples(12), tmp_path / "run", adapter="mixlora", max_steps=3)
    with record_routing(trainer.model) as seen:
        trainer.train()
    lines, log = (read_log(tmp_path / "run" / name) for name in (ROUTING_FILE, LOG_FILE))
    assert [line["step"] for line in lines] == [2, 3]
    windows = (seen.forwards[:4], seen.forwards[4:])  # two micro-batches a step
    for line, record, forwards in zip(lines, log, windows, strict=True):
        assert record["routing"] == {name: line[name] for name in ("entropy", "evenness", "dead_share")}
        assert set(line["tasks"]) == set(record["task_samples"])
        name = next(name for name in forwards[0].selections if name.endswith("up_proj"))
        parts = ("indices_a", "indices_b", "probs", "probs_b")
        found = {part: torch.cat([getattr(each.selections[name], part) for each in forwards]) for part in parts}
        dead = [1 - len(found[part].unique()) / 16 for part in parts[:2]]
        assert line["layers"][name]["dead_share"] == pytest.approx(sum(dead) / 2, abs=1e-4)
        nats = sum(entropy(found[part]).mean().item() for part in parts[2:]) / 2
        assert line["layers"][name]["entropy"] == pytest.approx(nats, abs=1e-4)


@pytest.mark.parametrize("adapter", [{"preset": "mixlora", **OPEN}, {"preset": "lora", **OPEN}, None])
def test_a_step_is_the_same_for_every_accumulation(tiny_samples, tmp_path, adapter):
    data = tiny_samples(8)
    found = []
    for micro, steps in SPLITS:
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


@pytest.mark.parametrize("over", ["batch", "sample"])
@pytest.mark.parametrize("preset", ["mixlora", "llava-mole", "lora", None])
def test_a_packed_step_is_the_padded_step(tiny_samples, tmp_path, preset, over):
    """Loss of every task, statistics and gradients; samples of different lengths, two micro-batches, packed into one
    row and into several that are filled up.
    """
    data, found = lengthen(tiny_samples(8)), []
    adapter = preset and {"preset": preset, "r": 2, "router_aux_loss_coef": 0.5, "router_aux_loss_scope": over, **OPEN}
    for name, width in (("padded", 0), ("one row", None), ("rows", 150)):
        shape = {"per_device_train_batch_size": 4, "max_steps": 1, "logging_steps": 1}
        trainer = make_trainer(data, tmp_path / name, adapter=adapter, packing=name != "padded", **shape)
        trainer.data.collator.width = width
        rows = trainer.data.collator(trainer.data.samples[:4])
        assert (len(rows["input_ids"]), "attended_mask" in rows) == {0: (4, False), None: (1, False), 150: (2, True)}[
            width
        ]
        gradients, (record,) = first_gradients(trainer), read_log(trainer.folder / LOG_FILE)
        found.append((gradients, {name: record[name] for name in record if name not in ("seconds", "grad_norm")}))
    assert all(value.any() for value in found[0][0].values())
    for packed in found[1:]:
        assert_same(found[0][0], packed[0])
        assert flat(found[0][1]) == pytest.approx(flat(packed[1]), abs=TOL[torch.float32]["atol"])


def flat(record):
    """A log record with its nested numbers beside the others."""
    nested = {f"{name}/{key}": each for name in record if isinstance(record[name], dict)
              for key, each in record[name].items()}  # fmt: skip
    return {**{name: value for name, value in record.items() if not isinstance(value, dict)}, **nested}


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


def test_projector_and_routers_have_their_own_learning_rates_and_vectors_no_decay(tiny_samples, tmp_path):
    rates = {"learning_rate": 1e-3, "projector_learning_rate": 1e-4, "router_learning_rate": 5e-3, "weight_decay": 0.1}
    trainer = make_trainer(tiny_samples(8), tmp_path / "run", adapter="mixlora", **rates)
    groups = trainer.create_optimizer().param_groups
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    described = {
        (group["lr"], group["weight_decay"]): {(part_of(names[id(p)]), p.ndim > 1) for p in group["params"]}
        for group in groups
    }
    assert described == {
        (1e-3, 0.1): {("factors", True)},
        (5e-3, 0.1): {("routers", True)},
        (1e-4, 0.1): {("projector", True)},
        (1e-4, 0.0): {("projector", False)},
    }
    assert groups[0]["lr"] == 1e-3  # the one that is logged
    assert all(group["fused"] for group in groups)
