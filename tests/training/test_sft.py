"""TRL's SFTTrainer with `peft_config=MixtureConfig(...)` on pictures: trained right, logged, saved, loaded again."""

import importlib
import json
import sys

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from PIL import Image

from mixtune import record_routing
from mixtune.training.routing_log import ROUTING_FILE
from routed import config
from steps import AUX, SPLITS, Gradients, assert_same, first_gradients
from tiny import COLOURS, tiny_llava

pytest.importorskip("trl", reason="TRL needs Python 3.11")
from trl import SFTConfig

from mixtune.training.sft import RoutedSFTTrainer

PRESETS = ("mixlora", "llava-mole")
ANSWERS = ("red", "the picture is green", "it is blue", "yes")  # of different lengths
MARKED = (  # what the assistant says is marked, so that TRL can supervise it alone
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} {% else %}ASSISTANT: {% generation %}{{ message['content'][0]['text'] }}{{ eos_token }}"
    "{% endgeneration %}{% endif %}{% endfor %}"
)


def rows(chat=False):
    made = []
    for number, (answer, colour) in enumerate(zip(ANSWERS, COLOURS.values(), strict=True)):
        asked = [{"role": "user", "content": "what is it?" if number % 2 else "which colour is this?"}]
        answered = [{"role": "assistant", "content": answer}]
        parts = {"messages": asked + answered} if chat else {"prompt": asked, "completion": answered}
        task = "what" if number % 2 else "colour"
        made.append({**parts, "images": [Image.new("RGB", (32, 32), colour)], "task": task})
    return Dataset.from_list(made)


def make(folder, preset, *, micro=2, steps=2, data=None, template=None, adapter=None, **options):
    model, processor = tiny_llava()
    processor.chat_template = template or processor.chat_template
    settings = {
        "max_steps": 1, "max_grad_norm": 0.0, "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False,
        "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-2, "gradient_checkpointing": False, **options,
    }  # fmt: skip
    arguments = SFTConfig(str(folder), per_device_train_batch_size=micro, gradient_accumulation_steps=steps, **settings)
    return RoutedSFTTrainer(
        model, args=arguments, train_dataset=rows() if data is None else data, processing_class=processor,
        peft_config=config(preset, **{"init_weights": False, **(adapter or {})}), callbacks=[Gradients()],
    )  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_is_the_same_for_every_accumulation(tmp_path, preset):
    found = [first_gradients(make(tmp_path, preset, micro=m, steps=s, adapter=AUX)) for m, s in SPLITS]
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])
    routers = [value for name, value in found[0].items() if "_router_" in name]
    assert routers and all(value.any() for value in routers)
    without = first_gradients(make(tmp_path, preset, adapter={"router_aux_loss_coef": 0.0}))
    assert any(not torch.allclose(found[2][name], without[name], atol=1e-3) for name in without if "_router_A" in name)


def test_recomputation_which_is_trls_default_changes_nothing(tmp_path):
    plain = first_gradients(make(tmp_path, "llava-mole", adapter=AUX))
    assert_same(first_gradients(make(tmp_path, "llava-mole", adapter=AUX, gradient_checkpointing=True)), plain)


def test_a_run_logs_by_task_and_its_checkpoint_loads(tmp_path):
    trainer = make(tmp_path, "mixlora", max_steps=3, num_train_epochs=3, save_strategy="steps", save_steps=3)
    trainer.train()
    logs = [record for record in trainer.state.log_history if "loss" in record]
    assert len(logs) == 3 and all("routing/entropy" in record for record in logs)
    lines = [json.loads(line) for line in (tmp_path / ROUTING_FILE).read_text().splitlines()]
    assert all(set(line["tasks"]) == {"colour", "what"} for line in lines)
    again = PeftModel.from_pretrained(tiny_llava()[0], tmp_path / "checkpoint-3").eval()
    found = trainer.data_collator([rows()[number] for number in range(4)])
    found.pop("task_ids")
    assert torch.equal(again(**found).logits, trainer.model.eval()(**found).logits)


def test_samples_are_routed_on_their_prompts(tmp_path):
    """Also with `messages` and a template that marks what the assistant says."""
    for chat in (False, True):
        options = {"assistant_only_loss": True, "data": rows(chat=True), "template": MARKED} if chat else {}
        trainer = make(tmp_path, "mixlora", micro=4, steps=1, **options)
        with record_routing(trainer.model) as seen:
            trainer.train()
        batch = trainer.data_collator([trainer.train_dataset[number] for number in range(4)])
        answers = (batch["labels"] != -100).sum(1)
        expected = (batch["attention_mask"].sum(1) - answers).sort().values
        assert torch.equal(seen.prompt_lengths.sort().values, expected) and answers.max() > answers.min()


def test_messages_without_marks_leave_no_prompt(tmp_path):
    with pytest.raises(ValueError, match="supervised from their first token"):
        make(tmp_path, "mixlora", data=rows(chat=True)).train()
    make(tmp_path, "llava-mole", data=rows(chat=True)).train()


def test_a_second_forward_that_loses_the_auxiliary_loss_is_refused(tmp_path):
    with pytest.warns(FutureWarning, match="label_smoothing_factor"):
        trainer = make(tmp_path, "llava-mole", adapter=AUX, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="router_aux_loss_coef: the trainer ran the model once more"):
        trainer.train()


def test_without_trl_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "mixtune.training.sft")
    with pytest.raises(ImportError, match=r"pip install 'mixtune\[trl\]'"):
        importlib.import_module("mixtune.training.sft")
