"""Names on a command line to questions: what is left out, some of each task, pictures that lie elsewhere."""

from __future__ import annotations

import json

import pytest

import official_files
from mixtune.data.sample import DataError
from mixtune.evaluate.asking import EvaluationRequest, ask, questions, some_of_each


def request(*benchmarks: str, **changes) -> EvaluationRequest:
    return EvaluationRequest(model="m", benchmarks=benchmarks, **changes)


def broken_vsr(folder):
    """Three questions, of which one can be read: the picture of two is none."""
    official_files.vsr(folder)
    (folder / "images" / "000000017697.jpg").write_bytes(b"no picture")
    (folder / "test.jsonl").open("a").write('{"image": "other.jpg", "caption": "x", "label": 1}\n')
    official_files.picture(folder / "images" / "other.jpg")
    return folder


def test_unreadable_samples_are_listed_up_to_a_limit_over_all_benchmarks(tmp_path) -> None:
    folder = broken_vsr(tmp_path / "vsr")
    with pytest.raises(DataError, match=r"(?s)2 unreadable sample\(s\).*allows 1.*cannot be decoded"):
        questions(request(f"vsr={folder}", max_bad=1))
    found = questions(request(f"vsr={folder}", max_bad=2))
    assert (len(found.samples), len(found.left_out)) == (1, 2)
    with pytest.raises(DataError, match=r"4 unreadable sample\(s\).*allows 3"):
        questions(request(f"vsr={folder}", f"vsr={broken_vsr(tmp_path / 'again')}", max_bad=3))


def test_a_benchmark_of_which_nothing_can_be_read_says_why(tmp_path) -> None:
    folder = official_files.vsr(tmp_path)
    (folder / "images" / "000000017697.jpg").unlink()
    with pytest.raises(DataError, match=r"(?s)2 unreadable.*000000017697.jpg' is missing"):
        ask(f"vsr={folder}")


def sorted_folder(folder):
    """A folder a class: 30 apples, then 30 cups."""
    for name in ("apple", "cup"):
        for number in range(30):
            official_files.picture(folder / name / f"{number:02}.png", size=(4, 4))
    return folder


def test_some_of_each_are_spread_over_a_sorted_folder_and_always_the_same(tmp_path) -> None:
    samples = ask(f"cifar100={sorted_folder(tmp_path)}").samples
    twenty = some_of_each(samples, 20)
    assert {sample.messages[1].text for sample in twenty} == {"apple", "cup"}
    assert [sample.id for sample in twenty] == sorted(sample.id for sample in twenty)  # as they stood
    assert some_of_each(list(reversed(samples)), 20) == list(reversed(twenty))
    assert set(sample.id for sample in twenty) < set(sample.id for sample in some_of_each(samples, 21))


def test_questions_about_one_picture_stay_together(tmp_path) -> None:
    folder = tmp_path / "mme"
    for number in range(12):
        official_files.picture(folder / "count" / f"{number}.jpg")
        (folder / "count" / f"{number}.txt").write_text("Is it?\tYes\nIs it not?\tNo\n", encoding="utf-8")
    samples = questions(request(f"mme={folder}", per_task=8)).samples
    assert len(samples) == 8 and len({sample.cluster for sample in samples}) == 4


def test_tasks_are_chosen_by_name(tmp_path) -> None:
    asked = f"pope={official_files.pope(tmp_path)}"
    found = questions(request(asked, tasks=("pope/random",)))
    assert {sample.task for sample in found.samples} == {"pope/random"}
    with pytest.raises(ValueError, match="--task pope/randm: no question belongs to it; did you mean 'pope/random'"):
        questions(request(asked, tasks=("pope/randm",)))


def test_pictures_may_lie_elsewhere(tmp_path) -> None:
    folder = official_files.pope(tmp_path / "files")
    (folder / "val2014").rename(tmp_path / "coco")
    with pytest.raises(DataError, match=r"COCO_1.jpg' is missing"):
        questions(request(f"pope={folder}"))
    assert len(questions(request(f"pope={folder}", images=tmp_path / "coco")).samples) == 4


def test_a_file_of_samples_is_asked_too(tmp_path) -> None:
    official_files.picture(tmp_path / "a.png")
    turns = [{"role": "user", "content": "<image>q"}, {"role": "assistant", "content": "a"}]
    row = {"id": "1", "task": "mine", "images": ["a.png"], "messages": turns}
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row) + "\nbroken\n", encoding="utf-8")
    assert (len(ask(str(path)).samples), len(ask(str(path)).left_out)) == (1, 1)
    with pytest.raises(DataError, match="allows 1"):
        questions(request(str(path), str(path), max_bad=1))
