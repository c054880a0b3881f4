"""From samples to the projector's warm start: which pictures and captions, encoded once, trained, said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from mixtune.config import TrainSettings
from mixtune.data import Sample, load_image
from mixtune.training.align import collect, warm_start
from mixtune.training.parts import base_dtype, hold_in_float32, projector


def _pixel_reader(samples: Sequence[Sample], processor: ProcessorMixin) -> Callable[[int], Tensor]:
    def read(number: int) -> Tensor:
        picture = load_image(samples[number].images[0])
        return processor.image_processor(images=picture, return_tensors="pt")["pixel_values"][0]

    return read


def warm_start_projector(
    model: PreTrainedModel, processor: ProcessorMixin, samples: Sequence[Sample], settings: TrainSettings
) -> list[float]:
    """Warm-start the projector on the samples with one picture; a caption is the last answer. Returns the losses."""
    usable = [sample for sample in samples if len(sample.images) == 1]
    captions = [sample.messages[-1].text for sample in usable]
    hold_in_float32(projector(model)[1], base_dtype(model))
    data = collect(model, processor.tokenizer, _pixel_reader(usable, processor), captions)
    return warm_start(model, data, settings)
