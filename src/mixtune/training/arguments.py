"""A recipe's training settings as transformers' TrainingArguments."""

from __future__ import annotations

import os

import torch
from transformers import SchedulerType, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from mixtune.config import DataSettings, TrainSettings, near


def check_names(settings: TrainSettings) -> None:
    """Raises ValueError with near names for a schedule or a logger that Trainer does not know."""
    schedules = [schedule.value for schedule in SchedulerType]
    if settings.lr_scheduler_type not in schedules:
        name = settings.lr_scheduler_type
        raise ValueError(f"train.lr_scheduler_type: '{name}' is unknown{near(name, schedules)}")
    loggers = ["none", "all", *INTEGRATION_TO_CALLBACK]
    for name in settings.report_to:
        if name not in loggers:
            raise ValueError(f"train.report_to: '{name}' is unknown{near(name, loggers)}")


def training_arguments(settings: TrainSettings, data: DataSettings) -> TrainingArguments:
    """Trainer's arguments for a recipe: AdamW (fused), no autocast, all columns kept, checkpoints by step."""
    check_names(settings)
    on_cpu = not torch.accelerator.is_available()
    return TrainingArguments(
        use_cpu=on_cpu,  # said outright, or processes launched on CPUs would each train alone
        ddp_backend="gloo" if on_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        output_dir=settings.output_dir,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_ratio if settings.warmup_ratio < 1 else 0.999999,
        weight_decay=settings.weight_decay,
        num_train_epochs=settings.num_train_epochs,
        max_steps=settings.max_steps or -1,
        max_grad_norm=settings.max_grad_norm,
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        seed=settings.seed,
        optim="adamw_torch_fused",
        report_to=list(settings.report_to) or "none",
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=data.dataloader_num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
