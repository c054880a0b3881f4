"""`--dry-run`: find every mistake of a recipe in seconds, on a machine that may have neither weights nor data.

Where the base is not on this machine but in `architectures.ARCHITECTURES`, a tiny random twin with the same module
names stands in for it, and trained parameters are counted on the real sizes; where the data is not here, synthetic
samples do. Two optimizer steps run in a folder that is thrown away.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from mixtune.config import Recipe, expand_path, near
from mixtune.data import BadSample, Encoder, ImageRef, Message, Sample, read_samples
from mixtune.training import checkpoint as store
from mixtune.training.architectures import build_twin, find_architecture, known_names
from mixtune.training.assemble import Tasks, build_trainer, fit_tasks, group_tasks
from mixtune.training.centering import center_on_samples
from mixtune.training.features import plan_features
from mixtune.training.finish import run_metrics
from mixtune.training.loading import MODEL_BUILDERS, ModelError, load_model, local_config, meta_model, torch_dtype
from mixtune.training.plan import budget, budget_lines, data_lines, model_lines
from mixtune.training.setup import count_parameters, prepare

STEPS = 2
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210)}
TWIN_LENGTH = 512


def synthetic_samples() -> list[Sample]:
    """A few samples of two tasks about plain coloured pictures, made in memory."""
    samples = []
    for number in range(8):
        name = list(COLOURS)[number % 3]
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), COLOURS[name]).save(buffer, format="PNG")
        picture = ImageRef(path=f"synthetic-{number}.png", read=buffer.getvalue)
        question, answer = (
            ("What colour is it?", name) if number % 2 else ("Is it red?", "yes" if name == "red" else "no")
        )
        messages = (Message("user", f"<image>{question}"), Message("assistant", answer))
        task = "colour" if number % 2 else "yes-no"
        samples.append(Sample(id=str(number), messages=messages, images=(picture,), task=task, origin="synthetic"))
    return samples


def _base(recipe: Recipe, say: Callable[..., None]) -> tuple[PreTrainedModel, ProcessorMixin, bool]:
    """(base or its twin, processor, whether it is the real one). Raises ModelError if neither can be had."""
    settings = recipe.model
    if settings.name_or_path in MODEL_BUILDERS or local_config(settings) is not None:
        return (*load_model(settings), True)
    row = find_architecture(settings.name_or_path)
    if row is None:
        raise ModelError(
            f"model.name_or_path: '{settings.name_or_path}' is not on this machine and not a known architecture"
            f"{near(settings.name_or_path, known_names())}"
        )
    say(f"dry run    {settings.name_or_path} is not here: a tiny random twin of its architecture ({row.source})")
    return (*build_twin(row, torch_dtype(settings)), False)


def _data_is_here(recipe: Recipe) -> bool:
    return all(Path(expand_path(source.path)).exists() for source in recipe.data.sources)


def shortened(recipe: Recipe, folder: str, *, twin: bool) -> Recipe:
    """The recipe cut to two small steps in `folder`; what a twin cannot hold (length, checkpoints, batch) shrinks."""
    train = recipe.train.model_copy(
        update={
            "output_dir": folder,
            "max_steps": STEPS,
            "warmup_ratio": 0.0,
            "logging_steps": 1,
            "save_steps": STEPS,
            "per_device_train_batch_size": min(recipe.train.per_device_train_batch_size, 2),
            "gradient_accumulation_steps": min(recipe.train.gradient_accumulation_steps, 2),
            "report_to": (),
        }
    )
    length = min(recipe.data.max_length, TWIN_LENGTH) if twin else recipe.data.max_length
    short = {"max_length": length, "dataloader_num_workers": 0, "feature_cache": False}
    data = recipe.data.model_copy(update=short)
    return recipe.model_copy(update={"train": train, "data": data})


def rehearse(recipe: Recipe, say: Callable[..., None]) -> dict[str, Any]:
    """Check the recipe, say its plan, train two steps, keep nothing; return the two steps' metrics.

    Raises whatever a real run would raise about folder, data, adapter or model.
    """
    store.check_writable(Path(recipe.train.output_dir))
    found = read_samples(recipe.data) if _data_is_here(recipe) else None
    base, processor, is_real = _base(recipe, say)
    tasks = _tasks(recipe, found if is_real else None, Encoder(processor, recipe.data.max_length), say)
    sizes = base if is_real else meta_model(recipe.model)
    assert sizes is not None  # a twin has a row in the table
    frozen = sum(weight.numel() for weight in sizes.parameters())
    prepared = prepare(base, recipe)
    plan_features(recipe, prepared.trained.model, Encoder(processor, recipe.data.max_length), tasks.samples)
    say(*model_lines(recipe, prepared.parameters if is_real else count_parameters(sizes, recipe), frozen))
    if found:
        say(*data_lines([sample.task for sample in found[0]], recipe))
        say(*budget_lines(recipe, budget(recipe, len(found[0]))))

    with tempfile.TemporaryDirectory(prefix="mixtune-dry-run-") as folder:
        short = shortened(recipe, folder, twin=not is_real)
        store.record_recipe(Path(folder), short)
        trainer = build_trainer(short, prepared, Encoder(processor, short.data.max_length), tasks)
        center_on_samples(trainer, tasks, lambda *lines: None, samples=STEPS)
        trainer.train()
        metrics = run_metrics(Path(folder))
    say(f"dry run    {STEPS} steps ran, loss {metrics['loss']:.3f}; nothing was kept")
    return metrics


def _tasks(
    recipe: Recipe, found: tuple[list[Sample], list[BadSample]] | None, encoder: Encoder, say: Callable[..., None]
) -> Tasks:
    """The recipe's own samples, or synthetic ones, to which no weights by task name apply."""
    if found is not None:
        return fit_tasks(*found, encoder, recipe, say)
    say("dry run    steps run on synthetic samples")
    plain = recipe.data.model_copy(update={"sampling": "proportional", "weights": {}})
    return group_tasks(synthetic_samples(), recipe.model_copy(update={"data": plain}))
