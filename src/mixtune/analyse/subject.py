"""What an analysis looks at: a model with its adapter, and samples with the tasks they belong to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from peft import get_peft_model
from pydantic import Field
from rich.console import Console
from torch import Tensor, nn
from transformers import PreTrainedModel

from mixtune.adapters import MixtureConfig
from mixtune.adapters.layer import MixtureLinear
from mixtune.config import DataSettings, ModelSettings, Settings, SourceSettings, load_recipe, near
from mixtune.config.settings import CountOrZero, Names, Text
from mixtune.data import Sample, read_samples
from mixtune.evaluate.settings import TaskGroup
from mixtune.training.checkpoint import RECIPE_FILE
from mixtune.training.environment import describe_environment, versions
from mixtune.training.loading import ModelError, load_model, placed
from mixtune.training.parts import load_adapter, quiet_peft, vision_tower


class AnalysisRequest(Settings):
    """Which model, with which adapter, is analysed on which samples.

    model: folder or hub id; name: what the results call it. adapter: folder of a tuned adapter; without one a fresh
    adapter of `preset` is put on. data, unseen: files of samples; tasks of `unseen` are called unseen in the results,
    data_names what the results call all of them. places: domain and split of tasks, where they are known. tasks: only
    these. At most `max_bad` unreadable samples are left out. dtype and attn_implementation: of the base; where they are
    not given, those the adapter was trained with (recipe.yaml beside it), else bfloat16 and sdpa.
    """

    model: Text
    name: Text | None = None
    adapter: Path | None = None
    preset: Text = "mixlora"
    data: Names = ()
    unseen: Names = ()
    data_names: Names = ()
    places: Mapping[str, TaskGroup] = Field(default_factory=dict)
    tasks: Names = ()
    max_bad: CountOrZero = 0
    dtype: Literal["float32", "bfloat16"] | None = None
    attn_implementation: Text | None = None

    @property
    def base(self) -> ModelSettings:
        """The base and how it is loaded. Raises ConfigError naming a recipe.yaml that is needed and cannot be read."""
        asked = {"dtype": self.dtype, "attn_implementation": self.attn_implementation}
        given = {name: value for name, value in asked.items() if value is not None}
        recipe = self.adapter / RECIPE_FILE if self.adapter else None
        base = ModelSettings(name_or_path=self.model)
        if recipe and recipe.exists() and len(given) < len(asked):
            trained = load_recipe(recipe).model
            base = trained.model_copy(update={"name_or_path": self.model, "revision": None})
        return base.model_copy(update=given)

    def describe(self) -> dict[str, Any]:
        """Model and how it is loaded, adapter, preset and data as the results name them."""
        return {
            "model": self.name or self.model,
            **self.base.model_dump(include={"dtype", "attn_implementation"}),
            "adapter": str(self.adapter) if self.adapter else None,
            "preset": None if self.adapter else self.preset,
            "data": list(self.data_names or (*self.data, *self.unseen)),
        }


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task by name, its domain and split, and its samples."""

    name: str
    domain: str
    split: str
    samples: tuple[Sample, ...]

    def describe(self) -> dict[str, Any]:
        """Name, domain and split as the results have them."""
        return {"name": self.name, "domain": self.domain, "split": self.split}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A loaded model in eval mode with nothing that trains, its processor, and the tasks: seen ones first, by domain
    and name.
    """

    model: Any
    processor: Any
    tasks: tuple[Task, ...]
    started: float = field(default_factory=time.monotonic)


def load_subject(request: AnalysisRequest) -> Subject:
    """Read the samples, load the model and put the adapter on it.

    Raises ValueError naming the model, adapter, its recipe, preset, task, file or sample that does not fit.
    """
    tasks, settings = read_tasks(request), request.base
    try:
        base, processor = load_model(settings)
    except ModelError as error:
        if request.attn_implementation or settings.attn_implementation == "sdpa":
            raise
        code = f"'{settings.attn_implementation}' is what {request.adapter} was trained with"
        raise ModelError(f"{error} (attention code {code}; --attn-implementation takes another)") from error
    model = placed(adapted(base, request))
    return Subject(model=model, processor=processor, tasks=tasks)


def adapted(base: PreTrainedModel, request: AnalysisRequest) -> nn.Module:
    """`base` with the tuned adapter, or with a fresh one, the same in every launch; in eval mode, nothing trains."""
    if request.adapter is not None:
        return load_adapter(base, request.adapter)
    with quiet_peft(), torch.random.fork_rng():
        torch.manual_seed(0)
        return get_peft_model(base, MixtureConfig(preset=request.preset)).requires_grad_(False).eval()


def read_tasks(request: AnalysisRequest) -> tuple[Task, ...]:
    """The samples of all files by task. Raises ValueError for no file, a task that is not there, or a task in both."""
    if not (request.data or request.unseen):
        raise ValueError("data: names no file of samples")
    found: dict[str, list[Sample]] = {}
    splits: dict[str, str] = {}
    for split, paths in (("seen", request.data), ("unseen", request.unseen)):
        for sample in _read(paths, request.max_bad):
            place = request.places.get(sample.task)
            label = place.split if place else split
            if splits.setdefault(sample.task, label) != label:
                raise ValueError(f"{sample.origin}: task {sample.task!r} is in --data and in --unseen; take one")
            found.setdefault(sample.task, []).append(sample)
    for name in request.tasks:
        if name not in found:
            raise ValueError(f"tasks: the data hold no task {name!r}{near(name, found)}")
    tasks = [
        Task(
            name=name,
            domain=request.places[name].domain if name in request.places else "",
            split=splits[name],
            samples=tuple(samples),
        )
        for name, samples in found.items()
        if not request.tasks or name in request.tasks
    ]
    return tuple(sorted(tasks, key=lambda task: (task.split, task.domain, task.name)))


def _read(paths: Sequence[str], max_bad: int) -> list[Sample]:
    if not paths:
        return []
    sources = tuple(SourceSettings(path=path) for path in paths)
    samples, left_out = read_samples(DataSettings(sources=sources, max_bad=max_bad))
    for bad in left_out:
        Console(stderr=True, soft_wrap=True, markup=False).print(f"left out {bad}")
    return samples


def model_inputs(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A collated batch as `model` takes it: on its device, pictures in its dtype, routing facts only for a mixture."""
    routed = any(isinstance(module, MixtureLinear) for module in model.modules())
    dtype = next(vision_tower(model).parameters()).dtype
    given = batch if routed else {k: v for k, v in batch.items() if k not in ("prompt_mask", "task_ids")}
    return {name: value.to(model.device, dtype if value.is_floating_point() else None) for name, value in given.items()}


def surroundings() -> dict[str, Any]:
    """Versions and environment as the results record them."""
    environment = {name: value for name, value in describe_environment().items() if name != "home"}
    return {"versions": versions(), "environment": environment}
