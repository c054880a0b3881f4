"""TRL's SFTTrainer for models with a mixture. TRL is asked for when this file is imported, and nowhere else."""

from __future__ import annotations

from mixtune.training.routed import RoutedTrainer

try:
    from trl import SFTTrainer
except ImportError as error:
    raise ImportError(f"mixtune.training.sft: TRL cannot be imported ({error}); pip install 'mixtune[trl]'") from error


class RoutedSFTTrainer(RoutedTrainer, SFTTrainer):
    """`trl.SFTTrainer` with the auxiliary loss, task ids and routing statistics of `RoutedTrainer`.

        RoutedSFTTrainer(model, args=SFTConfig(...), train_dataset=dataset, processing_class=processor,
                         peft_config=MixtureConfig(preset="mixlora"))

    A preset that routes instances has to know each prompt from the labels: columns `prompt` and `completion`, or
    `messages` with assistant_only_loss=True; with every token supervised there is no prompt, which raises ValueError.
    """
