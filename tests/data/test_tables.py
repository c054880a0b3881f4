"""Datasets saved on disk, with pictures in the table, as a column of one or of many, or as paths."""

import pickle

import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pictures

from mixtune.config import DataSettings, SourceSettings
from mixtune.data.readers import read_samples
from mixtune.data.sample import DataError, load_image

TURNS = {"role": Value("string"), "content": Value("string")}
COLOURS = [(255, 0, 0), (0, 0, 255)]


def table(many: bool) -> Dataset:
    """Two rows, a red and a blue picture."""
    pictures = [Pictures.new("RGB", (6, 4), colour) for colour in COLOURS]
    messages = [{"role": "user", "content": "<image>what?"}, {"role": "assistant", "content": "red"}]
    column, feature = ("images", List(Image())) if many else ("image", Image())
    cells = [[picture] for picture in pictures] if many else pictures
    features = Features({"messages": List(TURNS), column: feature, "task": Value("string")})
    return Dataset.from_dict({"messages": [messages] * 2, column: cells, "task": ["a", "b"]}, features=features)


def read(path, **source):
    return read_samples(DataSettings(sources=(SourceSettings(path=str(path), **source),)))


@pytest.mark.parametrize("many", [False, True])
def test_pictures_of_a_table_are_fetched_when_wanted(tmp_path, many):
    table(many).save_to_disk(tmp_path / "saved")
    samples, bad = read(tmp_path / "saved")
    assert bad == []
    assert [sample.task for sample in samples] == ["a", "b"]
    assert samples[1].origin == f"{tmp_path / 'saved'}[1]"
    assert samples[1].images[0].path.endswith("[1].images[0]" if many else "[1].image")
    refs = [pickle.loads(pickle.dumps(sample.images[0])) for sample in samples]
    assert [load_image(ref).getpixel((0, 0)) for ref in refs] == COLOURS


def test_a_folder_that_datasets_can_load_with_pictures_as_paths(tmp_path):
    Pictures.new("RGB", (6, 4)).save(tmp_path / "a.png")
    folder = tmp_path / "parquet"
    folder.mkdir()
    paths = table(False).remove_columns("image").add_column("image", [str(tmp_path / "a.png"), "a.png"])
    paths.to_parquet(folder / "train.parquet")
    samples, _ = read(folder, format="datasets", image_folder=str(tmp_path))
    assert [sample.images[0].path for sample in samples] == [str(tmp_path / "a.png")] * 2
    assert samples[0].messages[0].text == "<image>what?"


def test_splits_and_sources_that_are_not_there(tmp_path):
    DatasetDict({"train": table(False), "test": table(False)}).save_to_disk(tmp_path / "saved")
    assert len(read(tmp_path / "saved", split="test", max_samples=1)[0]) == 1
    with pytest.raises(DataError, match="there is no split 'tset'; did you mean 'test'"):
        read(tmp_path / "saved", split="tset")
    with pytest.raises(DataError, match="nowhere: split 'train' cannot be loaded as a dataset"):
        read(tmp_path / "nowhere")
