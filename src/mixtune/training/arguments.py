"""A recipe's training settings as transformers' TrainingArguments."""

from __future__ import annotations

import os

import torch
from transformers import TrainingArguments

from mixtune.config import DataSettings, TrainSettings


def training_arguments(settings: TrainSettings, data: DataSettings) -> TrainingArguments:
    """Trainer's arguments for a recipe: AdamW (fused), no autocast, all columns kept, checkpoints by step."""
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
