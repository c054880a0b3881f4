"""What runs are asked, as short hashes: a run whose questions changed is asked again, and not trained again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixtune.config import movable_path
from mixtune.data import Sample
from mixtune.evaluate.questions import prompt_of, target_of


@dataclass(frozen=True, kw_only=True)
class AskedFor:
    """The questions of some benchmarks: their hash, and their tasks in order."""

    digest: str
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> AskedFor:
        """Of the questions themselves."""
        return cls(digest=questions_digest(samples), tasks=tuple(dict.fromkeys(sample.task for sample in samples)))


def digest(value: Any) -> str:
    """A short hash of plain data."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]


def questions_digest(samples: Sequence[Sample]) -> str:
    """A short hash of what is asked: ids, tasks, prompts, answers, options and the pictures' paths."""
    pictures = [[movable_path(image.path) for image in sample.images] for sample in samples]
    asked = [[s.id, s.task, prompt_of(s), target_of(s), list(s.options)] for s in samples]
    return digest([[*words, paths] for words, paths in zip(asked, pictures, strict=True)])
