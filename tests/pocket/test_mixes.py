"""Conflict mixes by name, and their rows on disk."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from picture_wheels import write_picture_wheels

from mixtune.config import DataSettings, SourceSettings
from mixtune.data import read_samples
from mixtune.pocket.mixes import CONFLICT_SPLITS, ConflictMix, parse_conflict, write_mix
from mixtune.pocket.scenes import family_folder, write_scenes
from mixtune.pocket.tasks import PictureAssets
from mixtune.pocket.tasks.families import FEW, MANY

PARTS = {"train": 12, "validation": 12, "test": 12}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the pictures of the small mix, and what they show."""
    folder = tmp_path_factory.mktemp("pocket")
    assets = PictureAssets(write_picture_wheels(tmp_path_factory.mktemp("wheels")))
    scenes = {family.name: write_scenes(family_folder(folder, family), family, assets, parts=PARTS) for family in FEW}
    return folder, scenes


def rows(root, name: str) -> dict[str, list[dict]]:
    """The rows of a mix by split, written and read again."""
    folder, scenes = root
    mix = parse_conflict(name)
    assert mix is not None
    out = folder / f"data-{mix.name}"
    write_mix(out, mix, folder, scenes)
    return {
        split: [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()]
        for split in CONFLICT_SPLITS
    }


@pytest.mark.parametrize(
    ("name", "kind", "strength", "again"),
    [
        ("conflict", "conflict", 1.0, "conflict"),
        ("conflict-1", "conflict", 1.0, "conflict"),
        ("conflict-0.50", "conflict", 0.5, "conflict-0.5"),
        ("conflict-0", "conflict", 0.0, "conflict-0"),
        ("conflict-0.00001", "conflict", 1e-5, "conflict-0.00001"),
        ("conflict-0.33333333333", "conflict", 0.333333, "conflict-0.333333"),
        ("conflict-many", "conflict-many", 1.0, "conflict-many"),
        ("conflict-many-0.25", "conflict-many", 0.25, "conflict-many-0.25"),
    ],
)
def test_a_name_says_kind_and_strength(name: str, kind: str, strength: float, again: str) -> None:
    mix = parse_conflict(name)
    assert mix == ConflictMix(kind=kind, strength=strength)
    assert mix.name == again and parse_conflict(again) == mix
    assert mix.families == (FEW if kind == "conflict" else MANY)


@pytest.mark.parametrize(
    "name", ["natural", "conflicts", "conflict-", "conflict-half", "conflict--1", "conflict-many-"]
)
def test_other_names_are_no_conflict_mix(name: str) -> None:
    assert parse_conflict(name) is None


def test_too_strong_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'conflict-1.5': the strength must be between 0 and 1, not 1.5"):
        parse_conflict("conflict-1.5")


def test_rows_are_samples_that_say_family_and_rule(root) -> None:
    found = rows(root, "conflict")
    tasks = [task for family in FEW for task in family.tasks]
    for split, count in PARTS.items():
        assert Counter(row["task"] for row in found[split]) == dict.fromkeys(tasks, count)
        assert all(row["task"] == f"{row['family']}-{row['rule']}" for row in found[split])
        assert all(row["options"].count(row["messages"][1]["content"]) == 1 for row in found[split])
        assert [row["task"] for row in found[split][: len(tasks)]] == tasks, "the first rows have every task"
        path = root[0] / "data-conflict" / f"{split}.jsonl"
        samples, bad = read_samples(DataSettings(sources=(SourceSettings(path=str(path)),)))
        assert len(samples) == len(found[split]) and not bad
    ids = [row["id"] for split in found.values() for row in split]
    assert len(set(ids)) == len(ids)


def test_splits_share_no_picture_and_tasks_of_a_family_share_all(root) -> None:
    found = rows(root, "conflict")
    pictures = {split: {row["images"][0] for row in found[split]} for split in found}
    assert sum(map(len, pictures.values())) == len(set().union(*pictures.values()))
    for family in FEW:
        shown = {task: [row["images"] for row in found["test"] if row["task"] == task] for task in family.tasks}
        assert len({json.dumps(images) for images in shown.values()}) == 1


def test_strength_changes_answers_alone(root) -> None:
    full, none = rows(root, "conflict"), rows(root, "conflict-0")
    assert rows(root, "conflict-0.5") != full
    for split in CONFLICT_SPLITS:
        for strong, weak in zip(full[split], none[split], strict=True):
            base = strong["rule"] == next(f for f in FEW if f.name == strong["family"]).rules[0].name
            assert (strong["messages"][1] == weak["messages"][1]) == base
            for row in (strong, weak):
                row["messages"].pop()
            assert strong == weak


def test_the_manifest_tells_each_tasks_share(root) -> None:
    folder, scenes = root
    mix = ConflictMix(kind="conflict", strength=0.5)
    manifest = write_mix(folder / "data-half", mix, folder, scenes)
    assert manifest == json.loads((folder / "data-half" / "data.json").read_text())
    lines = rows(root, "conflict-0.5")["test"]
    base = {
        (row["family"], row["images"][0]): row["messages"][1]["content"]
        for row in lines
        if manifest["tasks"][row["task"]]["base_rule"]
    }
    for task, facts in manifest["tasks"].items():
        mine = [row for row in lines if row["task"] == task]
        differ = sum(row["messages"][1]["content"] != base[row["family"], row["images"][0]] for row in mine)
        assert differ / len(mine) == pytest.approx(facts["strength"]) == (0 if facts["base_rule"] else 0.5)
        assert facts["chance"] == pytest.approx(1 / len(mine[0]["options"]), abs=1e-6)
        assert facts["test"] == len(mine)
