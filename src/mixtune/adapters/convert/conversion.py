"""What a conversion did: which released tensor went where, what was compared, what is left over and why."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

REPORT_FILE = "conversion.json"
# Keys that no rule uses -> why that is no loss, or what it means. The first pattern found in the key counts.
REASONS = (
    (r"(^|\.)(vision_tower|vit)\.", "the vision tower, which the released code keeps frozen; the base has its own"),
    (
        r"(^|\.)(embed_tokens|text_embed|lm_head|norm|\w+_layernorm|rotary_emb|\w+_proj|\w+_proj\.base_layer)\.\w+$",
        "the language model, which the released code keeps frozen; the base has its own",
    ),
    (
        r"(^|\.)visual_(start|end)_token$",
        "a trained vector put beside the picture's features; transformers' LLaVA has no place for it, and the "
        "converted model computes without it",
    ),
    (r"^mm_projector\.", "the projector; projector=False leaves the base its own"),
)
UNKNOWN = "no rule of this layout names it"
CARD = """\
---
{head}---

# {preset} adapter for {base}

Converted by mixtune from a released {layout} checkpoint. The adapter computes what the released code computes with the
tensors that were used; what was left over is named below.

```python
import mixtune  # registers the adapter type with peft
from peft import PeftModel
model = PeftModel.from_pretrained(base_model, "{folder}")
```

## Conversion

```
{summary}
```
"""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A finished conversion, also written to conversion.json beside the adapter.

    used: keys of the files that make up each tensor of the adapter's file (none: not in the files, made here).
    checked: keys of frozen weights that were compared with the base, and how. left_over: every other key, and why.
    settings: of the release, with where each came from in origins. read, not_read: file names.
    """

    folder: Path
    layout: str
    preset: str
    base: str
    settings: dict[str, Any]
    origins: dict[str, str]
    used: dict[str, tuple[str, ...]]
    checked: dict[str, str]
    left_over: dict[str, str]
    read: tuple[str, ...]
    not_read: tuple[str, ...]

    def to_json(self) -> str:
        """The report as JSON, without the folder it lies in."""
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        return json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n"

    def card(self) -> str:
        """The folder's README: metadata the hubs read, how to load the adapter, and `summary`."""
        head = {"base_model": self.base, "library_name": "peft", "pipeline_tag": "image-text-to-text"}
        tags = yaml.safe_dump({**head, "tags": ["mixtune", f"mixtune:{self.preset}"]}, sort_keys=False)
        return CARD.format(
            head=tags, preset=self.preset, base=self.base, layout=self.layout, folder=self.folder.name,
            summary="\n".join(self.summary()),
        )  # fmt: skip

    def summary(self) -> list[str]:
        """The report in a few lines: what was not carried over is named, never counted away silently."""
        keys = sum(len(each) for each in self.used.values())
        settings = ", ".join(f"{name} {value} ({self.origins[name]})" for name, value in self.settings.items())
        lines = [
            f"layout     {self.layout} -> preset {self.preset}",
            f"settings   {settings}",
            f"read       {', '.join(self.read)}",
            f"used       {keys} tensors, laid together as {len(self.used)}",
        ]
        for word, group in (("checked", self.checked), ("left over", self.left_over)):
            for reason, found in _by_reason(group).items():
                more = f" and {len(found) - 1} more" if len(found) > 1 else ""
                lines.append(f"{word:<11}{found[0]}{more}: {reason}")
        return lines


def reason_left(key: str) -> str:
    """Why the tensor called `key` (a canonical name) is left over."""
    return next((reason for pattern, reason in REASONS if re.search(pattern, key)), UNKNOWN)


def _by_reason(group: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, reason in group.items():
        found.setdefault(reason, []).append(key)
    return found
