"""Tables that hold their pictures: VLMEvalKit's TSV files and parquet files of hub datasets."""

import pytest

import official_files
from mixtune.data.sample import DataError, load_image
from mixtune.evaluate.benchmarks.registry import read_items, wanted
from official_files import BLUE, RED, base64_picture, encoded


def read(text):
    return list(read_items(wanted(text)))


def colours(items):
    return [load_image(item.image).getpixel((3, 3)) for item in items]


def test_a_tsv_gives_pictures_by_place_and_shares_them(tmp_path) -> None:
    rows = [
        {"index": 0, "image": base64_picture(RED), "question": 'Is it "red"?\nPlease.', "answer": "Yes",
         "category": "color", "image_path": "a.jpg"},
        {"index": 1, "image": "0", "question": "Is it blue?", "answer": "No", "category": "color",
         "image_path": "a.jpg"},
        {"index": 2, "image": base64_picture(BLUE), "question": "Größe?", "answer": "No", "category": "OCR",
         "image_path": "b.jpg"},
    ]  # fmt: skip
    items = read(f"mme={official_files.write_tsv(tmp_path / 'MME.tsv', rows)}")
    assert colours(items) == [RED, RED, BLUE]
    assert [(item.part, item.cluster) for item in items] == [("color", "a.jpg"), ("color", "a.jpg"), ("OCR", "b.jpg")]
    assert items[0].question == 'Is it "red"?\nPlease.' and items[2].question == "Größe?"


def test_answers_listed_as_text_are_a_list(tmp_path) -> None:
    row = {"index": 5, "image": base64_picture(), "question": "What?", "answer": str(["a", "b's", "b's"])}
    (item,) = read(f"textvqa={official_files.write_tsv(tmp_path / 'TextVQA_VAL.tsv', [row])}")
    assert item.answers == ("b's", "b's", "a") and item.id == "5"


def test_a_question_of_several_splits_counts_in_each(tmp_path) -> None:
    row = {"index": 1, "image": base64_picture(), "question": "Is there a car?", "answer": "Yes",
           "category": "adversarial,popular"}  # fmt: skip
    items = read(f"pope={official_files.write_tsv(tmp_path / 'POPE.tsv', [row])}")
    assert [(item.part, item.answers) for item in items] == [("adversarial", ("Yes",)), ("popular", ("Yes",))]


def test_a_tsv_of_something_else_is_named(tmp_path) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(DataError, match="no column `index`"):
        read(f"mme={tmp_path / 'x.tsv'}")
    (tmp_path / "x.tsv").write_bytes(b"index\tquestion\n1\t\xff\n")
    with pytest.raises(DataError, match=r"x\.tsv: cannot be read as TSV"):
        read(f"mme={tmp_path / 'x.tsv'}")


def test_questions_that_share_a_picture_of_a_tsv_are_one_cluster(tmp_path) -> None:
    rows = [
        {"index": 4, "image": base64_picture(), "question": "Is it?", "answer": "Yes"},
        {"index": 5, "image": "4", "question": "Is it not?", "answer": "No"},
    ]
    items = read(f"vsr={official_files.write_tsv(tmp_path / 'VSR.tsv', rows)}")
    assert [item.cluster for item in items] == ["VSR.tsv#4"] * 2


def test_parquet_files_of_the_split_are_read(tmp_path) -> None:
    rows = [{"img": encoded(RED), "label": 3}, {"img": encoded(BLUE), "label": 8}]
    official_files.write_parquet(tmp_path / "plain_text" / "test-00000-of-00001.parquet", rows, "img")
    official_files.write_parquet(tmp_path / "plain_text" / "train-00000-of-00001.parquet", rows[:1], "img")
    items = read(f"cifar10={tmp_path}")
    assert [item.answers[0] for item in items] == ["cat", "ship"]
    assert colours(items) == [RED, BLUE]


def test_a_dataset_of_the_hub_is_asked_for_its_split_and_configuration(tmp_path, monkeypatch) -> None:
    import datasets

    file = official_files.write_parquet(
        tmp_path / "validation.parquet",
        [{"image": encoded(), "questionId": "9", "question": "Date?", "answers": ["1 May", "May 1"], "docId": "3"}],
    )
    real, asked = datasets.load_dataset, []

    def load(path_or_id, **given):
        asked.append((path_or_id, given["name"], given["split"]))
        return real("parquet", split="train", data_files=[str(file)])

    monkeypatch.setattr(datasets, "load_dataset", load)
    (item,) = read("docvqa")
    assert (item.answers, item.cluster, item.id) == (("1 May", "May 1"), "3", "9")
    read("docvqa=hf:me/mine")
    assert asked == [("lmms-lab-encoder/DocVQA", "DocVQA", "validation"), ("me/mine", None, "validation")]
