"""Tiny public benchmarks in the formats of their official files, written in code for the tests of readers."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from pathlib import Path

from PIL import Image

RED, BLUE = (200, 30, 30), (30, 30, 200)


def picture(path: Path, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (32, 32)) -> Path:
    """A plain picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def encoded(colour: tuple[int, int, int] = RED) -> bytes:
    """The bytes of a PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (24, 24), colour).save(stream, "png")
    return stream.getvalue()


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tsv(path: Path, rows: list[dict]) -> Path:
    """As pandas writes VLMEvalKit's tables."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: list[dict], image: str = "image") -> Path:
    """As the hub stores datasets with pictures in them."""
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    path.parent.mkdir(parents=True, exist_ok=True)
    plain = Dataset.from_list([{key: value for key, value in row.items() if key != image} for row in rows])
    features = Features({**plain.features, image: ImageFeature()})
    cells = [{**row, image: {"bytes": row[image], "path": None}} for row in rows]
    Dataset.from_list(cells, features=features).to_parquet(str(path))
    return path


def mme(folder: Path) -> Path:
    """Two subtasks, one in each of the two layouts; Windows line ends in one file."""
    for name in ("0001", "0002"):
        picture(folder / "count" / f"{name}.jpg")
        text = "Are there two? Please answer yes or no.\tYes\nIs there one? Please answer yes or no.\tNo\n"
        (folder / "count" / f"{name}.txt").write_text(text, encoding="utf-8")
    picture(folder / "posters" / "images" / "tt01.png")
    text = folder / "posters" / "questions_answers_YN" / "tt01.txt"
    text.parent.mkdir()
    text.write_bytes(b"Is it 'A'? Please answer yes or no.\tYes\r\nIs it 'B'? Please answer yes or no.\tNo\r\n")
    return folder


def pope(folder: Path) -> Path:
    """Two splits of two questions about one picture, as JSON lines."""
    picture(folder / "val2014" / "COCO_1.jpg")
    for split in ("random", "popular"):
        rows = [
            {"question_id": 1, "image": "COCO_1.jpg", "text": "Is there a snowboard in the image?", "label": "yes"},
            {"question_id": 2, "image": "COCO_1.jpg", "text": "Is there a car in the image?", "label": "no"},
        ]
        write_lines(folder / "coco" / f"coco_pope_{split}.json", rows)
    return folder


def textvqa(folder: Path) -> Path:
    """One question that nine of ten people answer alike."""
    picture(folder / "train_images" / "ab12.jpg")
    people = ["Dakota", *["dakota digital"] * 9]
    row = {"question_id": 7, "image_id": "ab12", "question": "what is the BRAND?", "answers": people}
    write_json(folder / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": [row]})
    return folder


def vsr(folder: Path) -> Path:
    picture(folder / "images" / "000000017697.jpg")
    rows = [
        {"image": "000000017697.jpg", "caption": "The car is behind the suitcase.", "label": 1, "relation": "behind"},
        {"image": "000000017697.jpg", "caption": "The cat is under the car.", "label": 0, "relation": "under"},
    ]
    write_lines(folder / "test.jsonl", rows)
    return folder


def snli_ve(folder: Path) -> Path:
    picture(folder / "flickr30k-images" / "123.jpg")
    rows = [
        {"pairID": f"123.jpg#0r1{label[0]}", "Flickr30K_ID": "123", "sentence1": "A premise.",
         "sentence2": "Two women.", "gold_label": label}
        for label in ("entailment", "neutral", "contradiction")
    ]  # fmt: skip
    write_lines(folder / "snli_ve_test.jsonl", rows)
    return folder


def cifar10(folder: Path) -> Path:
    """Two records: a red cat and a blue ship; the first pixel of the cat is green."""
    red = bytes([0] + [200] * 1023), bytes([255] + [30] * 1023), bytes([0] + [30] * 1023)
    blue = bytes([30]) * 2048 + bytes([200]) * 1024
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_batch.bin").write_bytes(bytes([3]) + b"".join(red) + bytes([8]) + blue)
    return folder


def cifar100(folder: Path) -> Path:
    """One record: coarse label 4, fine label 53 (orange)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.bin").write_bytes(bytes([4, 53]) + bytes([120]) * 3072)
    return folder


def mnist(folder: Path, zipped: bool = True) -> Path:
    """Two pictures of 28 x 28: a 7 and a 2."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in (2, 28, 28))
    images = bytes([0, 0, 8, 3]) + sizes + bytes([10]) * 784 + bytes([240]) * 784
    labels = bytes([0, 0, 8, 1]) + (2).to_bytes(4, "big") + bytes([7, 2])
    for name, data in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


def pathvqa(folder: Path) -> Path:
    picture(folder / "images" / "test_0001.jpg")
    rows = [
        {"image": "test_0001", "question": "what is present?", "answer": "liver cells"},
        {"image": "test_0001", "question": "is the liver present?", "answer": "yes"},
    ]
    write_json(folder / "test.json", rows)
    return folder


def chartqa(folder: Path) -> Path:
    picture(folder / "test" / "png" / "41699051005347.png")
    for kind, label in (("human", "12"), ("augmented", "Sweden")):
        row = {"imgname": "41699051005347.png", "query": f"How many ({kind})?", "label": label}
        write_json(folder / "test" / f"test_{kind}.json", [row])
    return folder


def docvqa(folder: Path) -> Path:
    picture(folder / "documents" / "xnbl0037_1.png")
    row = {"questionId": 49153, "question": "What is the date?", "image": "documents/xnbl0037_1.png", "docId": 14465,
           "answers": ["university of california", "University of California"], "data_split": "val"}  # fmt: skip
    whole = {"dataset_name": "docvqa", "dataset_split": "val", "data": [row]}
    (folder / "val_v1.0_withQT.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    return folder


def tiny_lvlm(folder: Path) -> Path:
    for ability, answers in (("Visual_Reasoning", ["two", "a pair"]), ("Object_Hallucination", "yes")):
        picture(folder / ability / "images" / "1.png")
        row = {"image_path": "images/1.png", "question": "How many?", "gt_answers": answers}
        write_json(folder / ability / "dataset.json", [row])
    return folder


def base64_picture(colour: tuple[int, int, int] = RED) -> str:
    return base64.b64encode(encoded(colour)).decode("ascii")


BUILDERS = {
    "mme": mme, "pope": pope, "textvqa": textvqa, "vsr": vsr, "snli-ve": snli_ve, "cifar10": cifar10,
    "cifar100": cifar100, "mnist": mnist, "pathvqa": pathvqa, "chartqa": chartqa, "docvqa": docvqa,
    "tiny-lvlm": tiny_lvlm,
}  # fmt: skip
"""A writer for every benchmark of the table."""
