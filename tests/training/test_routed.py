"""A mixture in transformers' own Trainer: the auxiliary loss weighs what it should, tasks and statistics are logged."""

import json
import warnings

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import Trainer, TrainerCallback, TrainingArguments

from mixtune import center_routers, get_peft_model
from mixtune.adapters import auxiliary_loss, router_parameters
from mixtune.adapters.hooks import ModelHooks
from mixtune.training.callbacks import CastWindow, RouterError
from mixtune.training.routed import RoutedTrainer, TaskCollator, tasks_of
from mixtune.training.routing_log import ROUTING_FILE
from routed import adapted, batch, config, in_bfloat16, randomise, sample
from steps import AUX, SPLITS, Gradients, assert_same, first_gradients
from tiny import tiny_llava
from tolerances import TOL

ANSWERS = (1, 6, 3, 2)  # supervised tokens of the samples, so that no two micro-batches weigh the same
PRESETS = ("mixlora", "llava-mole")


def samples():
    made = [sample(seed, 9 + 2 * seed, answer) for seed, answer in enumerate(ANSWERS)]
    return [{**each, "task": ("vqa", "caption")[number % 2]} for number, each in enumerate(made)]


def injected(preset, **changes):
    """The tiny LLaVA with the adapter put in by transformers' own `add_adapter`."""
    model, _ = tiny_llava()
    model.add_adapter(config(preset, **changes))
    randomise(model)
    return model


def make(folder, model, *, micro=4, steps=1, kind=RoutedTrainer, data=None, **options):
    settings = {
        "max_steps": 1, "max_grad_norm": 0.0, "logging_steps": 1, "report_to": "none", "use_cpu": True,
        "save_strategy": "no", "remove_unused_columns": False, "disable_tqdm": True, "learning_rate": 1e-2,
        **options,
    }  # fmt: skip
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=micro, gradient_accumulation_steps=steps, **settings
    )
    data = samples() if data is None else data
    return kind(model=model, args=arguments, train_dataset=data, data_collator=batch, callbacks=[Gradients()])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("build", [adapted, injected])
def test_a_step_is_the_same_for_every_accumulation(tmp_path, preset, build):
    found = [first_gradients(make(tmp_path, build(preset, **AUX), micro=m, steps=s)) for m, s in SPLITS]
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])
    without = first_gradients(make(tmp_path, build(preset, router_aux_loss_coef=0.0)))
    routers = [name for name in without if "_router_" in name]
    assert routers and all(
        not torch.allclose(found[0][n], without[n], **TOL[torch.float32]) for n in routers if "_A." in n
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_each_micro_batch_weighs_what_its_labels_are_of_all(tmp_path, preset):
    """With the loss per batch, which is not additive: ∇ = Σ_m (Σ nll_m + n_m·aux_m) / N."""
    model = adapted(preset, router_aux_loss_coef=0.5).train()
    rows = [{k: v for k, v in each.items() if k != "task"} for each in samples()]
    trainer = make(tmp_path, adapted(preset, router_aux_loss_coef=0.5), micro=2, steps=2, data=rows)
    order = list(iter(trainer.get_train_dataloader().sampler))
    torch.manual_seed(trainer.args.seed)
    seen = []
    collate, trainer.data_collator = trainer.data_collator, lambda each: seen.append(collate(each)) or seen[-1]
    found = first_gradients(trainer)
    assert len(order) == len(rows) and len(seen) >= 2
    total = sum(ANSWERS)
    for each in seen[:2]:
        n_local = int((each["labels"][:, 1:] != -100).sum())
        loss = model(**each).loss  # the mean over the n_local labels
        aux = auxiliary_loss(model)
        ((loss + aux) * n_local / total).backward()
    assert_same(found, {name: p.grad for name, p in model.named_parameters() if p.grad is not None})


def test_without_a_mixture_nothing_is_different(tmp_path):
    def trained(kind):
        torch.manual_seed(0)
        model = tiny_llava()[0]
        trainer = make(
            tmp_path / kind.__name__,
            model,
            kind=kind,
            data=[{k: v for k, v in s.items() if k != "task"} for s in samples()],
        )
        return first_gradients(trainer)

    ours, theirs = trained(RoutedTrainer), trained(Trainer)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_losses_tasks_and_statistics_are_logged(tmp_path):
    trainer = make(tmp_path, adapted("llava-mole", **AUX), micro=2, steps=2, max_steps=3)
    trainer.train()
    logs = [record for record in trainer.state.log_history if "loss" in record]
    assert len(logs) == 3
    for record in logs:
        assert 0.5 <= record["routing/aux_loss"] / 2 <= 1.5  # coef 0.5, two routers, 1 for an even one and 3 at most
        assert 0 < record["routing/evenness"] < 1 and 0 <= record["routing/dead_share"] < 1
    lines = [json.loads(line) for line in (tmp_path / ROUTING_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(set(line["tasks"]) == {"caption", "vqa"} for line in lines)
    assert [line["entropy"] for line in lines] == [record["routing/entropy"] for record in logs]


def test_a_hidden_label_routes_as_a_shown_one(tmp_path):
    """Label smoothing and an own loss function keep the labels from the model, and so the end of the prompt."""

    def own_loss(outputs, labels, num_items_in_batch=None):
        logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / num_items_in_batch

    shown = first_gradients(make(tmp_path, adapted("mixlora", **AUX), micro=2, steps=2))
    trainer = make(tmp_path, adapted("mixlora", **AUX), micro=2, steps=2)
    trainer.compute_loss_func = own_loss
    assert_same(first_gradients(trainer), shown)


def test_all_tokens_supervised_is_an_error_for_routed_instances(tmp_path):
    rows = [{**each, "labels": each["ids"].clone()} for each in samples()]
    with pytest.raises(ValueError, match="supervised from their first token"):
        make(tmp_path, adapted("mixlora"), data=rows).train()
    make(tmp_path, adapted("llava-mole"), data=rows).train()


def test_a_dead_router_stops_the_training(tmp_path):
    model = adapted("mixlora")
    dead = next(name for name, _ in router_parameters(model).items())
    trainer = make(tmp_path, model, max_steps=12, num_train_epochs=12)
    trainer.watch.pending[f"unused.{dead}"] = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(RouterError, match="unused"):
        trainer.train()


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_give_the_same_gradients(tmp_path, reentrant):
    plain = first_gradients(make(tmp_path, adapted("llava-mole", **AUX), micro=2, steps=2))
    model = adapted("llava-mole", **AUX)
    model.get_base_model().enable_input_require_grads()
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
    trainer = make(tmp_path, model, micro=2, steps=2, **options)
    assert bool(trainer.watch.pending) is not reentrant
    assert_same(first_gradients(trainer), plain)


class Written(TrainerCallback):
    """Counts copies of banks in each optimizer step, and writes the banks past torch's count of changes after it."""

    def __init__(self, model):
        self.hooks, self.counts = ModelHooks.find(model), []

    def on_substep_end(self, args, state, control, **kwargs):
        self.casts = self.hooks.holder.casts

    def on_step_end(self, args, state, control, model=None, **kwargs):
        assert self.hooks.holder.casts is None
        self.counts.append(self.casts.count if self.casts else 0)
        for name, parameter in model.named_parameters():
            if ".mixture_" in name:
                parameter.data.mul_(1.25)


def test_micro_batches_share_the_copies_of_banks(tmp_path):
    """One copy a layer in each optimizer step of four micro-batches, to the same bits as a copy in each of them."""
    results = []
    for moves in (False, True):
        model = in_bfloat16(adapted("mixlora"))
        trainer = make(tmp_path, model, micro=1, steps=4, max_steps=2, data=[in_low(each) for each in samples()])
        next(c for c in trainer.callback_handler.callbacks if isinstance(c, CastWindow)).moves = moves
        trainer.add_callback(written := Written(model))
        trainer.train()
        assert written.counts == [0 if moves else len(written.hooks.layers)] * 2
        results.append([p.detach().clone() for n, p in model.named_parameters() if ".mixture_" in n])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def in_low(each):
    return {**each, "pixels": each["pixels"].bfloat16()}


def test_no_copy_of_banks_outlives_a_run_that_breaks_off(tmp_path):
    model = injected("mixlora")
    in_bfloat16(model)

    class Breaks(TrainerCallback):
        def on_substep_end(self, args, state, control, **kwargs):
            assert ModelHooks.find(model).holder.casts is not None
            raise KeyboardInterrupt

    def half(samples):
        found = batch(samples)
        return {**found, "pixel_values": found["pixel_values"].bfloat16()}

    trainer = make(tmp_path, model, micro=1, steps=2)
    trainer.data_collator.collator = half
    trainer.add_callback(Breaks())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert ModelHooks.find(model).holder.casts is None


def test_centers_that_nobody_found_are_told(tmp_path):
    fresh = get_peft_model(tiny_llava()[0], config("mixlora-centered"))
    with pytest.warns(UserWarning, match="router_center: all centers are zero"):
        make(tmp_path, fresh)
    with center_routers(fresh):
        fresh(**batch(samples()))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="router_center")
        make(tmp_path, fresh)


def test_a_task_column_survives_the_removal_of_columns(tmp_path):
    rows = Dataset.from_list([
        {"input_ids": s["ids"].tolist(), "labels": s["labels"].tolist(), "pixel_values": s["pixels"].tolist(),
         "task": s["task"], "source": "x"} for s in samples()
    ])  # fmt: skip
    seen = []

    def collate(examples):
        seen.append(set(examples[0]))
        return batch([
            {"ids": torch.tensor(e["input_ids"]), "labels": torch.tensor(e["labels"]),
             "pixels": torch.tensor(e["pixel_values"])} for e in examples
        ])  # fmt: skip

    trainer = make(tmp_path, adapted("llava-mole"), data=rows, remove_unused_columns=True)
    trainer.data_collator.collator = collate
    assert trainer.routing.statistics.task_names == ("caption", "vqa")
    trainer.train()
    assert seen and all(columns == {"input_ids", "labels", "pixel_values"} for columns in seen)
    tasks = json.loads((tmp_path / ROUTING_FILE).read_text().splitlines()[0])["tasks"]
    assert set(tasks) == {"caption", "vqa"}


def test_tasks_are_read_from_the_dataset_or_given():
    assert tasks_of(Dataset.from_list([{"task": "b"}, {"task": "a"}, {"task": None}])) == ("a", "b")
    assert tasks_of(Dataset.from_list([{"task_ids": 2}, {"task_ids": 0}])) == ("0", "1", "2")
    assert tasks_of(Dataset.from_list([{"other": 1}])) == () == tasks_of(iter([{"task": "a"}]))
    assert tasks_of([{"task": "b"}, {"task": "a"}]) == ("a", "b")
    collate = TaskCollator(lambda examples: {"plain": examples}, ("vqa", "caption"))
    found = collate([{"x": 1, "task": "caption"}, {"x": 2, "task": None}])
    assert found["plain"] == [{"x": 1}, {"x": 2}] and found["task_ids"].tolist() == [1, -1]
    assert collate([{"x": 1, "task_ids": 4}])["task_ids"].tolist() == [4]
    assert collate([{"x": 1}]) == {"plain": [{"x": 1}]}
    assert collate([{"task": "held out"}])["task_ids"].tolist() == [-1]


def test_what_was_trained_is_saved_and_loaded(tmp_path):
    trainer = make(tmp_path, adapted("mixlora"), max_steps=2, num_train_epochs=2, save_strategy="steps", save_steps=2)
    trainer.train()
    again = PeftModel.from_pretrained(tiny_llava()[0], tmp_path / "checkpoint-2")
    found = batch([{k: v for k, v in each.items() if k != "task"} for each in samples()])
    assert torch.equal(trainer.model.eval()(**found).logits, again.eval()(**found).logits)
