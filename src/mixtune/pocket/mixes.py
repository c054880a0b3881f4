"""Mixes by name: ``natural``, ``conflict``, ``conflict-many``, the last two with a strength (``conflict-0.5``); and
their files on disk.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixtune.pocket.assets import publish_folder
from mixtune.pocket.data import MANIFEST, scratch_folder
from mixtune.pocket.scenes import family_folder, picture_path
from mixtune.pocket.tasks import SOURCES
from mixtune.pocket.tasks.conflict import Family, answer_at, fighting_labels
from mixtune.pocket.tasks.families import FEW, MANY

FORMAT = 1
MIX_FAMILIES: dict[str, tuple[Family, ...]] = {"conflict": FEW, "conflict-many": MANY}
CONFLICT_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class ConflictMix:
    """A conflict mix at a strength in [0, 1]."""

    kind: str
    strength: float

    @property
    def name(self) -> str:
        """The shortest name that `parse_conflict` reads back: the strength is left out where it is 1."""
        return self.kind if self.strength == 1 else f"{self.kind}-{self.strength:f}".rstrip("0").rstrip(".")

    @property
    def families(self) -> tuple[Family, ...]:
        """The families whose tasks it has."""
        return MIX_FAMILIES[self.kind]


def parse_conflict(name: str) -> ConflictMix | None:
    """The mix called ``name`` (``conflict``, ``conflict-0.5``, ``conflict-many-0``); None if it is not a conflict mix.
    The strength is read to six decimals.

    Raises ValueError for a strength outside [0, 1].
    """
    found = re.fullmatch(r"(conflict|conflict-many)(?:-(\d+(?:\.\d+)?))?", name)
    if found is None:
        return None
    strength = round(float(found[2] or 1), 6)
    if strength > 1:
        raise ValueError(f"{name!r}: the strength must be between 0 and 1, not {found[2]}")
    return ConflictMix(kind=found[1], strength=strength)


def mix_manifest(mix: ConflictMix, scenes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the data folder says about itself: strength, counts, the pictures' checksums, and every task with its
    family, rule, instruction and options, its chance, and the share of its pictures on which it differs from the
    family's base rule.
    """
    tasks: dict[str, Any] = {}
    for family in mix.families:
        source, licence = SOURCES[family.source]
        fighting = fighting_labels(family.labels, mix.strength) / family.labels
        for number, (task, rule) in enumerate(zip(family.tasks, family.rules, strict=True)):
            tasks[task] = {
                "domain": family.domain,
                "split": "seen",
                "family": family.name,
                "rule": rule.name,
                "base_rule": number == 0,
                "strength": fighting if number else 0.0,
                "instruction": rule.question,
                "options": list(family.options),
                "about": family.about,
                "chance": round(1 / len(family.options), 6),
                **scenes[family.name]["counts"],
                "source": source,
                "licence": licence,
            }
    pictures = {family.name: scenes[family.name]["sha256"] for family in mix.families}
    return {"format": FORMAT, "mix": mix.name, "strength": mix.strength, "pictures": pictures, "tasks": tasks}


def mix_rows(
    mix: ConflictMix, split: str, scenes: Mapping[str, Mapping[str, Any]], up: str
) -> Iterator[dict[str, Any]]:
    """Rows of a split in the ``messages`` format: picture by picture, all families and rules of each number in turn,
    so that the first rows are as balanced as all. ``up`` leads from the file to the folder that holds the families'.
    """
    counts = max(len(found["scenes"][split]) for found in scenes.values())
    for index in range(counts):
        for family in mix.families:
            label, answers = scenes[family.name]["scenes"][split][index]
            for number, (task, rule) in enumerate(zip(family.tasks, family.rules, strict=True)):
                answer = answer_at(family, label, tuple(answers), number, mix.strength)
                yield {
                    "id": f"{task}-{split}-{index:05d}",
                    "task": task,
                    "domain": family.domain,
                    "split": "seen",
                    "family": family.name,
                    "rule": rule.name,
                    "options": list(family.options),
                    "images": [f"{up}/{family.name}/{picture_path(split, index)}"],
                    "messages": [
                        {"role": "user", "content": f"<image>{rule.question}"},
                        {"role": "assistant", "content": answer},
                    ],
                }


def write_mix(out: Path, mix: ConflictMix, root: Path, scenes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Write the data folder ``out``, which lies in ``root``, of pictures that are drawn already (``scenes`` by
    family); returns its manifest. The folder appears when complete.
    """
    manifest, scratch = mix_manifest(mix, scenes), scratch_folder(out)
    up = f"../{family_folder(root, mix.families[0]).parent.relative_to(root)}"
    try:
        for split in CONFLICT_SPLITS:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in mix_rows(mix, split, scenes, up))
            (scratch / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        publish_folder(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest
