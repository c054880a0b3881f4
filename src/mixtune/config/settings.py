"""Frozen, keyword-only settings of every component. A wrong name or value is refused, never ignored."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _one_or_many(value: Any) -> Any:
    """A single string stands for a list of one."""
    return (value,) if isinstance(value, str) else value


def _not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not Field(min_length=1): that counts only entries that passed, and so complains beside every wrong one.
    if not value:
        raise ValueError("is empty; name at least one")
    return value


def _no_switch(value: str) -> str:
    # YAML 1.2 leaves these words alone. They are not the name of a folder but the bool that pydantic reads in them.
    if value.lower() in ("on", "off", "yes", "no"):
        raise ValueError(f"'{value}' is a switch")
    return value


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def _as_bytes(value: Any) -> Any:
    """A size in words ("10GB", "1.5 TiB") as a number of bytes."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())
    if found is None or found[2].upper() not in _UNITS:
        raise ValueError(f"'{value}' is no size; write a number of bytes, or one with kB, MB, GB or TB ('10GB')")
    return int(float(found[1]) * _UNITS[found[2].upper()])


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, BeforeValidator(_as_bytes), Field(ge=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSettings(Settings):
    """The frozen base: a folder, hub id or built-in name, the dtype it is held in and its attention code."""

    name_or_path: Text
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    attn_implementation: Text = "sdpa"
    revision: Text | None = None


class SourceSettings(Settings):
    """One file, folder or dataset of samples.

    `task` labels samples that carry no label of their own; `image_folder` is what relative image paths start
    from (default: the file's folder); `split` is read of a dataset; `tasks` keeps the samples of these tasks alone,
    and `max_samples` the first so many of them.
    """

    path: Text
    format: Literal["auto", "llava", "sharegpt", "messages", "datasets"] = "auto"
    image_folder: Text | None = None
    split: Text = "train"
    task: Text | None = None
    tasks: Annotated[Names, AfterValidator(_not_empty)] | None = None
    max_samples: Count | None = None


class DataSettings(Settings):
    """What is trained on, and how often each task is drawn.

    With n samples in a task its share of an epoch is proportional to n ("proportional"), to 1 ("equal"), to
    n ** (1 / temperature) ("temperature"), or to `weights[task]` ("weights"). `max_length` counts tokens,
    those of images included. `max_per_task` keeps the first so many samples of every task. At most `max_bad` unreadable
    samples are left out; one more is an error. `packing` puts the samples of a micro-batch side by side into few rows
    instead of padding each.
    """

    sources: Annotated[tuple[SourceSettings, ...], AfterValidator(_not_empty)]
    sampling: Literal["proportional", "equal", "temperature", "weights"] = "proportional"
    temperature: Positive = 2.0
    weights: dict[str, NotNegative] = Field(default_factory=dict)
    max_length: Count = 1024
    packing: bool = False
    max_per_task: Count | None = None
    max_bad: CountOrZero = 0
    dataloader_num_workers: CountOrZero = 0
    feature_cache: bool | Annotated[Text, AfterValidator(_no_switch)] = False
    feature_cache_limit: Bytes = 10 * 10**9

    @model_validator(mode="after")
    def _weights_fit(self) -> DataSettings:
        if self.sampling == "weights" and not math.fsum(self.weights.values()) > 0:
            raise ValueError("weights: sampling 'weights' needs a weight above 0 for at least one task")
        if self.weights and self.sampling != "weights":
            raise ValueError(f"weights: given, but sampling is '{self.sampling}'; set sampling to 'weights'")
        return self


class AdapterSettings(Settings):
    """A preset's name and the fields of MixtureConfig that differ from it (what each means is said there)."""

    preset: Text = "mixlora"
    r: Count | None = None
    lora_alpha: Positive | None = None
    scaling: Positive | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    num_factors: Count | None = None
    num_experts: Count | None = None
    top_k: Count | None = None
    context: str | None = None
    router: str | None = None
    conditional: str | None = None
    ifs_weight: Annotated[float, Field(allow_inf_nan=False)] | None = None
    dense: str | None = None
    gate: str | None = None
    pooling: str | None = None
    keep_selection: bool | None = None
    router_trainable: bool | None = None
    random_routing: bool | None = None
    router_bias: bool | None = None
    router_center: bool | None = None
    router_scope: str | None = None
    router_aux_loss_coef: NotNegative | None = None
    router_aux_loss_scope: str | None = None
    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] | None = None
    mixture_modules: str | None = None
    modules_to_save: Names | None = None
    layers_to_transform: int | tuple[int, ...] | None = None
    layers_pattern: str | tuple[str, ...] | None = None
    init_weights: bool | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """The fields that were given, without the preset, as keyword arguments for MixtureConfig."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name != "preset"}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        return {name: value for name, value in listed.items() if value is not None}


class TrainSettings(Settings):
    """One run: where it writes, which stage it is, and the schedule.

    Stage "align" trains the projector alone, after `warm_start_steps` contrastive steps without the language
    model; stage "tune" trains the adapter and stage "full" the language model itself (its weights in float32), and the
    projector with it where `train_projector` is set. Learning rates are peak values; those of the projector and of a
    mixture's routers default to the other. `max_steps` above 0 overrules the epochs.
    Routing statistics are taken in one step of `routing_stats_steps`, in none if it is 0. The frozen vision tower sees
    `vision_batch_size` pictures at a time (default: all of a batch; one with data.feature_cache).
    """

    output_dir: Text
    learning_rate: Positive
    stage: Literal["align", "tune", "full"] = "tune"
    projector_learning_rate: Positive | None = None
    router_learning_rate: Positive | None = None
    lr_scheduler_type: Text = "cosine"
    warmup_ratio: Share = 0.03
    weight_decay: NotNegative = 0.0
    num_train_epochs: Positive = 1.0
    max_steps: Annotated[int, Field(ge=-1)] = -1
    per_device_train_batch_size: Count = 16
    gradient_accumulation_steps: Count = 1
    vision_batch_size: Count | None = None
    gradient_checkpointing: bool = False
    max_grad_norm: NotNegative = 1.0
    logging_steps: Count = 10
    routing_stats_steps: CountOrZero = 1
    save_steps: Count = 200
    save_total_limit: Count | None = 2
    seed: CountOrZero = 0
    report_to: Names = ()
    train_projector: bool = True
    warm_start_steps: CountOrZero = 0
    warm_start_learning_rate: Positive = 1e-3
    warm_start_batch_size: Count = 256
    num_threads: Count | None = None


class Recipe(Settings):
    """One experiment: base model, data, adapter (of stage "tune" alone) and training run."""

    model: ModelSettings
    data: DataSettings
    adapter: AdapterSettings | None = None
    train: TrainSettings

    @model_validator(mode="after")
    def _adapter_fits_stage(self) -> Recipe:
        if self.train.stage == "tune" and self.adapter is None:
            raise ValueError("adapter: missing; train.stage 'tune' trains one (`adapter: {preset: mixlora}`)")
        if self.train.stage == "align" and self.adapter is not None:
            raise ValueError("adapter: train.stage 'align' trains the projector alone; remove this section")
        if self.train.stage == "full" and self.adapter is not None:
            raise ValueError("adapter: train.stage 'full' trains the language model itself; remove this section")
        if self.train.stage == "full" and self.model.dtype != "float32":
            raise ValueError(
                "model.dtype: train.stage 'full' trains the base's own weights, and bfloat16 loses small updates; "
                "write float32"
            )
        return self

    @model_validator(mode="after")
    def _pictures_fit(self) -> Recipe:
        at_once = self.train.vision_batch_size
        if self.data.feature_cache and at_once not in (None, 1):
            raise ValueError(
                f"train.vision_batch_size: {at_once}, but data.feature_cache encodes one picture at a time; remove one "
                "of the two, or set this one to 1"
            )
        return self
