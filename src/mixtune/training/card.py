"""The model card of a run: metadata the hubs read, what was trained on what, and six lines that load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mixtune.config import Recipe, dump_recipe

_TUNED = """\
import mixtune  # registers the adapter type with peft
from mixtune.training.loading import load_model
from mixtune.training.parts import load_adapter
from mixtune.config import ModelSettings
model, processor = load_model(ModelSettings(name_or_path="{base}", dtype="{dtype}"))
model = load_adapter(model, "{folder}")
"""

_ALIGNED = """\
from mixtune.config import ModelSettings
from mixtune.training.loading import load_model
from mixtune.training.parts import load_projector
model, processor = load_model(ModelSettings(name_or_path="{base}", dtype="{dtype}"))
load_projector(model, "{folder}")
"""

_WHOLE = """\
from mixtune.config import ModelSettings
from mixtune.training.loading import load_model
from mixtune.training.whole import load_whole
model, processor = load_model(ModelSettings(name_or_path="{base}", dtype="{dtype}"))
load_whole(model, "{folder}")
"""
# By stage: how to load, what the card calls the result, what became of the base.
_STAGES = {
    "tune": (_TUNED, "{preset} adapter", "the base model's weights are unchanged"),
    "align": (_ALIGNED, "aligned projector", "the base model's other weights are unchanged"),
    "full": (_WHOLE, "fully fine-tuned language model", "the vision tower's weights are unchanged"),
}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says besides the recipe: samples per task, trained parameters per part, final metrics."""

    tasks: Mapping[str, int]
    parameters: Mapping[str, int]
    metrics: Mapping[str, Any]
    versions: Mapping[str, str]


def _metadata(recipe: Recipe, facts: CardFacts) -> str:
    method = recipe.adapter.preset if recipe.adapter else {"align": "projector"}.get(recipe.train.stage, "full")
    tags = ["mixtune", "vision-language", f"mixtune:{method}"]
    head = {
        "base_model": recipe.model.name_or_path,
        "library_name": "peft" if recipe.adapter else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": [*tags, *[f"task:{task}" for task in sorted(facts.tasks)]],
        "datasets": [Path(source.path).name for source in recipe.data.sources],
    }
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True)


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {title} | |", "|---|---:|"]
    lines += [
        f"| {name} | {value:,} |" if isinstance(value, int) else f"| {name} | {value} |" for name, value in rows.items()
    ]
    return "\n".join(lines)


def write_card(folder: Path, recipe: Recipe, facts: CardFacts) -> None:
    """Write `folder/README.md`: YAML metadata, summary, how to load, tasks, parameters, metrics, the whole recipe."""
    template, method, unchanged = _STAGES[recipe.train.stage]
    method = method.format(preset=recipe.adapter.preset if recipe.adapter else "")
    loading = template.format(base=recipe.model.name_or_path, dtype=recipe.model.dtype, folder=folder.name)
    parts = [
        f"---\n{_metadata(recipe, facts)}---\n",
        f"# {method} for {recipe.model.name_or_path}\n",
        f"Trained by mixtune on {sum(facts.tasks.values()):,} samples of {len(facts.tasks)} task(s); {unchanged}.\n",
        f"## Load\n\n```python\n{loading}```\n",
        f"## Tasks\n\n{_table('task', dict(facts.tasks))}\n",
        f"## Trained parameters\n\n{_table('part', dict(facts.parameters))}\n",
        f"## Result\n\n{_table('number', dict(facts.metrics))}\n",
        f"## Recipe\n\n```yaml\n{dump_recipe(recipe)}```\n",
        f"## Versions\n\n{_table('package', dict(facts.versions))}\n",
    ]
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")
