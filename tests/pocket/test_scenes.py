"""Families of the conflict mix: what their rules demand at every strength, and their pictures on disk."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from picture_wheels import write_picture_wheels
from PIL import Image

from mixtune.evaluate.scorers import normalise_answer
from mixtune.pocket.scenes import SCENES, family_folder, picture_path, read_scenes, write_scenes
from mixtune.pocket.tasks import DOMAINS, SOURCES, TASKS, PictureAssets
from mixtune.pocket.tasks.conflict import answer_at, fighting_labels, make_scene, renamed
from mixtune.pocket.tasks.families import FAMILIES, FEW, MANY

COUNT = 24
PARTS = ("train", "validation", "test")
STRENGTHS = (0.0, 0.25, 0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> PictureAssets:
    return PictureAssets(write_picture_wheels(tmp_path_factory.mktemp("wheels")))


@pytest.fixture(scope="module")
def made(assets):
    """Every family's first scenes of every part: {(family, part): [Scene]}."""
    return {
        (name, part): [make_scene(family, part, index, assets) for index in range(COUNT)]
        for name, family in FAMILIES.items()
        for part in PARTS
    }


def answers_of(family, scene, strength: float) -> list[str]:
    """What all rules of a family demand of one scene."""
    return [answer_at(family, scene.label, scene.answers, rule, strength) for rule in range(len(family.rules))]


def test_few_and_many() -> None:
    few, many = ([task for family in families for task in family.tasks] for families in (FEW, MANY))
    assert set(FEW) <= set(MANY) and len(set(many)) == len(many) >= 30
    assert 10 <= len(few) <= 20
    assert {family.domain for family in FEW} == set(DOMAINS)
    assert {family.source for family in MANY} <= set(SOURCES)
    assert not set(many) & set(TASKS), "a task's name says which mix it is of"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_well_formed(name: str) -> None:
    family = FAMILIES[name]
    questions = [rule.question for rule in family.rules]
    assert len(set(questions)) == len(questions) >= 2
    assert all(len(question.split()) <= 12 for question in questions)
    assert len({normalise_answer(option) for option in family.options} - {""}) == len(family.options)
    assert 4 <= family.labels <= 6 and len(family.options) <= 8, "small enough to be learnt in some sixty steps"


@pytest.mark.parametrize("name", FAMILIES)
def test_at_full_strength_no_two_rules_agree_on_any_picture(made, name: str) -> None:
    family = FAMILIES[name]
    for part in PARTS:
        for scene in made[name, part]:
            answers = answers_of(family, scene, 1.0)
            assert answers == list(scene.answers)
            assert len(set(answers)) == len(family.rules)


@pytest.mark.parametrize("name", FAMILIES)
def test_at_strength_zero_all_instructions_demand_the_base_rule(made, name: str) -> None:
    for scene in made[name, "test"]:
        assert set(answers_of(FAMILIES[name], scene, 0.0)) == {scene.answers[0]}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_strength_is_the_share_of_pictures_on_which_any_two_rules_differ(made, name: str, strength: float) -> None:
    family = FAMILIES[name]
    assert COUNT % family.labels == 0, "whole rounds of labels"
    fighting = fighting_labels(family.labels, strength)
    assert abs(fighting / family.labels - strength) <= 0.5 / family.labels
    asked = [answers_of(family, scene, strength) for scene in made[name, "test"]]
    for first, second in combinations(range(len(family.rules)), 2):
        assert sum(answers[first] != answers[second] for answers in asked) == COUNT * fighting // family.labels


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stronger_mix_keeps_the_conflicts_of_a_weaker_one(made, name: str) -> None:
    family = FAMILIES[name]
    for scene in made[name, "test"]:
        differ = [len(set(answers_of(family, scene, strength))) > 1 for strength in STRENGTHS]
        assert differ == sorted(differ)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_answer_is_one_option_and_a_function_of_what_is_seen(made, name: str) -> None:
    """Every label of the base rule comes equally often, and every answer is listed once."""
    family = FAMILIES[name]
    for part in PARTS:
        assert set(Counter(scene.label for scene in made[name, part]).values()) == {COUNT // family.labels}
        assert {scene.label for scene in made[name, part]} == set(range(family.labels))
        for scene in made[name, part]:
            assert scene.image.size == (128, 128) and scene.image.mode == "RGB"
            assert len(scene.answers) == len(family.rules)
            assert all(family.options.count(answer) == 1 for answer in scene.answers)
        base = {(scene.label, scene.answers[0]) for scene in made[name, part]}
        assert len(base) == len({answer for _, answer in base}) == family.labels


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_share_no_picture(made, name: str) -> None:
    pictures = [{scene.image.tobytes() for scene in made[name, part]} for part in PARTS]
    assert all(not first & second for first, second in combinations(pictures, 2))


def test_renamed_deals_every_name_once_in_each_rule() -> None:
    table = [renamed(("a", "b", "c", "d"), label, 3) for label in range(4)]
    assert table[2] == ("c", "d", "a")
    assert all(sorted(column) == ["a", "b", "c", "d"] for column in zip(*table, strict=True))


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_its_range_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength: must be between 0 and 1"):
        fighting_labels(4, strength)


def test_the_bars_are_what_the_rules_say(made) -> None:
    """Read back from the picture: the colour that stands highest, lowest above the floor, and farthest left."""
    reference = {"red": (220, 35, 35), "orange": (245, 140, 20), "yellow": (250, 220, 30), "green": (40, 160, 60),
                 "blue": (35, 80, 215), "purple": (130, 50, 165)}  # fmt: skip

    def colour(pixel: tuple[int, int, int]) -> str | None:
        near = min(reference, key=lambda name: sum(abs(a - b) for a, b in zip(pixel, reference[name], strict=True)))
        return near if all(abs(a - b) <= 15 for a, b in zip(pixel, reference[near], strict=True)) else None

    for scene in made["bars", "test"][:4]:
        spots = [
            (found, x, y)
            for x in range(16, 124)
            for y in range(4, 114)
            if (found := colour(scene.image.getpixel((x, y))))
        ]
        tops = {name: min(y for found, _, y in spots if found == name) for name in {found for found, _, _ in spots}}
        leftmost = min(spots, key=lambda spot: spot[1])[0]
        assert (min(tops, key=tops.get), max(tops, key=tops.get), leftmost) == scene.answers


def test_a_folder_is_a_function_of_its_numbers(tmp_path, assets) -> None:
    family, parts = FAMILIES["arrow"], {"train": 3, "test": 2}
    written = [write_scenes(tmp_path / name, family, assets, parts=parts) for name in ("one", "two")]
    assert written[0] == written[1] == read_scenes(tmp_path / "one")
    other = write_scenes(tmp_path / "other", family, assets, parts=parts, seed=1)
    assert other["sha256"] != written[0]["sha256"]
    first = make_scene(family, "test", 1, assets)
    kept = Image.open(tmp_path / "one" / picture_path("test", 1))
    assert kept.tobytes() == first.image.tobytes()
    assert written[0]["scenes"]["test"][1] == [first.label, list(first.answers)]


def test_an_interrupted_drawing_leaves_nothing(tmp_path, assets) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "arrow", FAMILIES["arrow"], assets, parts={"test": 2}, made=stop)
    assert list(tmp_path.iterdir()) == []


def test_another_version_is_not_read(tmp_path) -> None:
    folder = family_folder(tmp_path, FAMILIES["arrow"])
    assert read_scenes(folder) is None
    folder.mkdir(parents=True)
    for text in ("no json", "[]", json.dumps({"format": 0})):
        Path(folder / SCENES).write_text(text)
        assert read_scenes(folder) is None


def test_the_page_lists_every_family_and_rule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "pocket-data.md").read_text(encoding="utf-8")
    for family in MANY:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{family.name}` |"))
        mix = "both" if family in FEW else "many"
        assert f"| {mix} | {family.domain} |" in row
        assert all(f"`{rule.name}`: {rule.question}" in row for rule in family.rules)
        assert row.endswith(f"| {family.about} | {family.labels} | {len(family.options)} |")
