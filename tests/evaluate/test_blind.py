"""The blind control: other pictures of the same task, everything else as it was."""

from __future__ import annotations

import dataclasses

import pytest

from mixtune.data.sample import ImageRef, Message, Sample
from mixtune.evaluate.blind import blind


def sample(number: int, task: str, *pictures: str) -> Sample:
    messages = (Message("user", f"{'<image>' * len(pictures)}q{number}"), Message("assistant", f"a{number}"))
    return Sample(
        id=f"{task}-{number}",
        messages=messages,
        images=tuple(ImageRef(path) for path in pictures),
        task=task,
        options=(f"a{number}", "b"),
    )


SAMPLES = [sample(n, task, f"{task}/{n}.png") for n in range(7) for task in ("letter", "clock")]


def shown(samples) -> list[tuple[ImageRef, ...]]:
    return [one.images for one in samples]


def test_every_sample_shows_another_picture_of_its_task() -> None:
    asked = blind(SAMPLES)
    for before, after in zip(SAMPLES, asked, strict=True):
        assert after.images != before.images
        assert after.images[0].path.startswith(f"{before.task}/")
        assert after.id == f"{before.id}:blind"
        assert dataclasses.replace(after, id=before.id, images=before.images) == before
    assert sorted(image[0].path for image in shown(asked)) == sorted(image[0].path for image in shown(SAMPLES))


def test_it_depends_on_the_seed_and_not_on_the_order_or_other_tasks() -> None:
    again = blind(SAMPLES[::-1])[::-1]
    assert blind(SAMPLES) == again
    letters = [one for one in SAMPLES if one.task == "letter"]
    assert blind(letters) == [one for one in blind(SAMPLES) if one.task == "letter"]
    assert shown(blind(SAMPLES, seed=1)) != shown(blind(SAMPLES))


def test_questions_about_one_picture_get_one_other() -> None:
    asked = blind([sample(0, "t", "x"), sample(1, "t", "x"), sample(2, "t", "y")])
    assert [images[0].path for images in shown(asked)] == ["y", "y", "x"]


def test_samples_keep_their_number_of_images() -> None:
    mixed = [
        sample(0, "t", "a"),
        sample(1, "t", "b"),
        sample(2, "t", "c", "d"),
        sample(3, "t", "e", "f"),
        sample(4, "t"),
    ]
    assert [len(images) for images in shown(blind(mixed))] == [1, 1, 2, 2, 0]


def test_a_task_with_one_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task 'flag'.*two different pictures"):
        blind([*SAMPLES, sample(0, "flag", "same"), sample(1, "flag", "same")])
