"""Samples: read, checked, encoded, batched and drawn."""

from mixtune.data.collate import Collator, Encoder
from mixtune.data.fitting import fit_samples
from mixtune.data.mixture import TaskSampler, fingerprint_samples
from mixtune.data.readers import read_samples
from mixtune.data.sample import BadSample, DataError, ImageRef, Message, Sample, load_image

__all__ = [
    "BadSample",
    "Collator",
    "DataError",
    "Encoder",
    "ImageRef",
    "Message",
    "Sample",
    "TaskSampler",
    "fingerprint_samples",
    "fit_samples",
    "load_image",
    "read_samples",
]
