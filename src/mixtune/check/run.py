"""`mixtune check`: load the user's model, check the rules on it, keep what was found."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import get_peft_model
from torch import nn
from transformers import PreTrainedModel

from mixtune.adapters import MixtureConfig
from mixtune.check.inputs import examples_from
from mixtune.check.results import RuleResult
from mixtune.check.rules import check_rules
from mixtune.config import ModelSettings, Settings, write_atomic
from mixtune.config.settings import Count, NotNegative, Text
from mixtune.training.environment import describe_environment
from mixtune.training.loading import load_model
from mixtune.training.parts import load_adapter, quiet_peft

FILE = "check.json"
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


class CheckRequest(Settings):
    """What is checked.

    model: folder or hub id; name: what the report calls it. adapter: folder of a tuned adapter; without one a fresh
    adapter of `preset` is put on and checked with random values. data: file of samples, of which `examples` are taken;
    without one that many random ones are made. tolerance: a value may differ by tolerance·(1 + |expected|); by default
    TOLERANCES of the dtype.
    """

    model: Text
    name: Text | None = None
    adapter: Path | None = None
    preset: Text = "mixlora"
    data: Text | None = None
    examples: Count = 4
    dtype: Literal["float32", "bfloat16"] = "float32"
    attn_implementation: Text = "sdpa"
    tolerance: NotNegative | None = None

    @property
    def allowed(self) -> float:
        """The tolerance in force."""
        return TOLERANCES[self.dtype] if self.tolerance is None else self.tolerance


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What was found: request, environment (versions, device, threads), seconds, and the results in order."""

    request: CheckRequest
    environment: dict[str, str]
    seconds: float
    results: tuple[RuleResult, ...]

    @property
    def broken(self) -> list[RuleResult]:
        """The checks that are not kept."""
        return [each for each in self.results if each.kept is False]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data; a difference that is no number is null."""
        rows = [asdict(each) for each in self.results]
        for row in rows:
            row["difference"] = row["difference"] if math.isfinite(row["difference"]) else None
        asked = self.request.model_dump(mode="json", exclude={"name"})
        tuned = {"preset": None} if self.request.adapter else {}
        return {
            **asked,
            **tuned,
            "model": self.request.name or self.request.model,
            "tolerance": self.request.allowed,
            "broken": len(self.broken),
            "seconds": round(self.seconds, 1),
            "environment": self.environment,
            "results": rows,
        }

    def write(self, folder: Path) -> Path:
        """Write check.json into `folder`, atomically, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / FILE, json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return folder / FILE


def run_check(request: CheckRequest, progress: Callable[[RuleResult], None] | None = None) -> CheckReport:
    """Load model and adapter, make the examples and check every rule; `progress` is called with each result.

    Raises ValueError naming the model, adapter, preset, file or sample that does not fit.
    """
    started = time.monotonic()
    model, processor = load_model(
        ModelSettings(name_or_path=request.model, dtype=request.dtype, attn_implementation=request.attn_implementation)
    )
    examples = examples_from(processor, request.data, request.examples)
    adapted = _adapted(model, request)
    if torch.cuda.is_available():
        adapted.to("cuda")
    pad = getattr(processor.tokenizer, "pad_token_id", None)
    with exact_convolutions():
        results = check_rules(adapted, examples, tolerance=request.allowed, pad_token_id=pad or 0, progress=progress)
    return CheckReport(
        request=request,
        environment={name: value for name, value in describe_environment().items() if name != "home"},
        seconds=time.monotonic() - started,
        results=tuple(results),
    )


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Compute convolutions in float32, not in TF32, which is torch's default on CUDA: there the same picture in a batch
    of another size gives features that differ by 1e-4, which is not the adapter's doing.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _adapted(model: PreTrainedModel, request: CheckRequest) -> nn.Module:
    if request.adapter is not None:
        return load_adapter(model, request.adapter)
    with quiet_peft():
        return get_peft_model(model, MixtureConfig(preset=request.preset))
