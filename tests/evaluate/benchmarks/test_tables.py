"""Tables that hold their pictures: VLMEvalKit's TSV files and parquet files of hub datasets."""

import shutil
from pathlib import Path

import pytest
from datasets import Dataset

import official_files
from mixtune.data.sample import DataError, load_image
from mixtune.evaluate.benchmarks import tables
from mixtune.evaluate.benchmarks.registry import BENCHMARKS, read_items, wanted
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


HUB_ROWS = {
    "mme": {"question_id": "count/1.png", "question": "Two?", "answer": "Yes", "category": "count"},
    "textvqa": {"image_id": "ab", "question_id": 7, "question": "Which?", "answers": ["Yes"] * 10, "ocr_tokens": ["Y"]},
    "vsr": {"text": "A is on B.", "question": "<image> A is on B. A. True", "gt_value": True, "answer": "A"},
    "snli-ve": {"filename": "1.jpg", "premise": "A", "hypothesis": "B", "label": 0, "id": 3},
    "cifar10": {"label": 3},
    "cifar100": {"fine_label": 0, "coarse_label": 4},
    "mnist": {"label": 7},
    "pope": {"id": "0", "question_id": "1", "question": "Is there?", "answer": "yes", "category": "random",
             "image_source": "COCO_1"},
    "pathvqa": {"question": "what?", "answer": "yes"},
    "chartqa": {"type": "human_test", "question": "How many?", "answer": "12"},
    "docvqa": {"questionId": "9", "question": "Date?", "answers": ["1 May", "May 1"], "docId": 3},
    "tiny-lvlm": {"ability": "Visual_Reasoning", "question": "How many?", "gt_answers": ["two"]},
}  # fmt: skip
"""A row as the card of each dataset has it (SNLI-VE: of one with pictures; Tiny LVLM: its own fields)."""
HUB_ANSWERS = dict(zip(HUB_ROWS, "Yes Yes true entailment cat apple 7 yes yes 12".split(), strict=False))
HUB_ANSWERS |= {"docvqa": "1 May", "tiny-lvlm": "two"}
HUB_PARTS = {"mme": "count", "pope": "random", "pathvqa": "closed", "chartqa": "human", "tiny-lvlm": "Visual_Reasoning"}


def hub_layout(folder: Path, name: str) -> Path:
    """A dataset as the hub lays it out: a card that names configurations and splits, parquet files in a folder."""
    benchmark, image = BENCHMARKS[name], "img" if name.startswith("cifar") else "image"
    config, row = benchmark.config or "default", {**HUB_ROWS[name], image: encoded(RED)}
    card = "---\nconfigs:\n"
    for each, split in ((config, benchmark.split), ("other", benchmark.split), (config, "train")):
        official_files.write_parquet(folder / each / f"{split}-00000-of-00001.parquet", [row], image, name == "vsr")
    for each, splits in ((config, (benchmark.split, "train")), ("other", (benchmark.split,))):
        files = "".join(f"  - split: {split}\n    path: {each}/{split}-*\n" for split in splits)
        card += f"- config_name: {each}\n  data_files:\n{files}"
    (folder / "README.md").write_text(card + "---\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", HUB_ROWS)
def test_datasets_laid_out_as_on_the_hub_are_read_by_the_path_that_reads_the_hub(name, tmp_path) -> None:
    folder = hub_layout(tmp_path, name)
    if BENCHMARKS[name].config is None:  # without a name, a dataset of two configurations is none that can be chosen
        shutil.rmtree(folder / "other")
        card = (folder / "README.md").read_text().partition("- config_name: other")[0]
        (folder / "README.md").write_text(card + "---\n")
    for place in (f"{name}=hf:{folder}", f"{name}={folder}"):
        (item,) = read(place)
        assert item.part == HUB_PARTS.get(name, "")
        assert item.answers[0] == HUB_ANSWERS[name] and load_image(item.image).getpixel((3, 3)) == RED


def test_a_dataset_that_was_saved_to_disk_is_read(tmp_path) -> None:
    from datasets import load_dataset

    folder = hub_layout(tmp_path / "hub", "docvqa")
    load_dataset(str(folder), name="DocVQA").save_to_disk(tmp_path / "saved")
    for place in (f"docvqa=hf:{tmp_path / 'saved'}", f"docvqa={tmp_path / 'saved'}"):
        (item,) = read(place)
        assert (item.answers, item.cluster, item.id) == (("1 May", "May 1"), "3", "9")
    with pytest.raises(DataError, match="there is no split 'test'; choose from validation, train"):
        read(f"mme={tmp_path / 'saved'}")


def test_a_name_alone_asks_the_hub_for_its_dataset(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(tables, "load_split", lambda *words: asked.append(words) or Dataset.from_list([]))
    assert read("docvqa") == read("docvqa=hf:me/mine") == []
    assert asked == [("lmms-lab-encoder/DocVQA", "validation", "DocVQA"), ("me/mine", "validation", "DocVQA")]


def test_a_cell_without_a_picture_is_no_picture(tmp_path) -> None:
    rows = [{"image": encoded(RED), "label": 3}, {"image": None, "label": 4}]
    items = read(f"mnist={official_files.write_parquet(tmp_path / 'test.parquet', rows)}")
    with pytest.raises(DataError, match="holds no picture"):
        load_image(items[1].image)
