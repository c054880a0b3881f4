"""Sources from file to samples: formats, paths, labels, limits, and every mistake with its file and line."""

import json

import pytest
from PIL import Image

from mixtune.config import DataSettings, SourceSettings
from mixtune.data.formats import RowError
from mixtune.data.readers import find_file, read_samples
from mixtune.data.sample import DataError, ImageRef


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with images/a.png in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    return tmp_path


def row(answer="red", image="images/a.png", **more):
    turns = [{"role": "user", "content": "<image>what?"}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "images": [image], **more}


def write(path, *rows):
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path.name


def read(*sources, **settings):
    return read_samples(DataSettings(sources=tuple(SourceSettings(**source) for source in sources), **settings))


def error_of(*sources, **settings) -> str:
    with pytest.raises(DataError) as caught:
        read(*sources, **settings)
    return str(caught.value)


def test_samples_of_several_sources_in_order(folder):
    first = write(folder / "colours.jsonl", row("red"), row("blue", task="hue"))
    second = folder / "more.json"
    turns = [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "dog"}]
    second.write_text(json.dumps([{"id": "x", "image": "a.png", "conversations": turns}]))
    samples, bad = read({"path": first}, {"path": "more.json", "image_folder": "images", "task": "animals"})
    assert bad == []
    assert [sample.task for sample in samples] == ["colours", "hue", "animals"]
    assert [sample.origin for sample in samples] == ["colours.jsonl:1", "colours.jsonl:2", "more.json:1"]
    assert [str(sample.images[0]) for sample in samples] == ["images/a.png"] * 3
    assert samples[2].messages[0].text == "<image>\nwhat?"


def test_max_samples_keeps_the_first(folder):
    name = write(folder / "d.jsonl", row("a"), row("b"), row("c"))
    samples, _ = read({"path": name, "max_samples": 2})
    assert [sample.messages[1].text for sample in samples] == ["a", "b"]


def test_every_unreadable_sample_is_listed_with_file_line_field_value(folder):
    (folder / "images" / "cut.png").write_bytes((folder / "images" / "a.png").read_bytes()[:40])
    name = write(folder / "d.jsonl", row(), "{oops", row(image="images/b.png"), row(image="images/cut.png"),
                 row(images=[]), row(task=""))  # fmt: skip
    lines = error_of({"path": name}, max_bad=4).splitlines()
    assert lines[0] == "5 unreadable sample(s); data.max_bad (--max-bad) allows 4:"
    assert lines[1].startswith("d.jsonl:2: line: {oops is not JSON: ")
    assert lines[2] == "d.jsonl:5: images: 0 image(s), but 1 <image> placeholder(s) in messages"
    assert lines[3].startswith("d.jsonl:6: task: '' is no task label")
    assert lines[4] == "d.jsonl:3: images[0]: 'images/b.png' is missing; did you mean 'a.png'?"
    assert lines[5].startswith("d.jsonl:4: images[0]: 'images/cut.png' cannot be decoded: ")


def test_max_bad_leaves_out_at_most_so_many_and_lists_them(folder):
    name = write(folder / "d.jsonl", row("a"), "{oops", row(image="b.png"), row("b"))
    samples, bad = read({"path": name}, max_bad=2)
    assert [sample.messages[1].text for sample in samples] == ["a", "b"]
    assert [(one.origin, one.field) for one in bad] == [("d.jsonl:2", "line"), ("d.jsonl:3", "images[0]")]
    assert "2 unreadable sample(s)" in error_of({"path": name}, max_bad=1)


def test_bad_samples_of_all_sources_count_together(folder):
    names = [write(folder / f"{n}.jsonl", row(), "{") for n in range(2)]
    assert "2 unreadable" in error_of(*({"path": name} for name in names), max_bad=1)


def test_sources_without_samples(folder):
    write(folder / "empty.jsonl")
    (folder / "none.json").write_text("[]")
    write(folder / "all_bad.jsonl", "{")
    assert error_of({"path": "empty.jsonl"}) == "empty.jsonl: is empty"
    assert error_of({"path": "none.json"}) == "none.json: data.sources.0.path: holds no readable sample"
    assert error_of({"path": "all_bad.jsonl"}, max_bad=9) == (
        "all_bad.jsonl: data.sources.0.path: holds no readable sample"
    )


def test_sources_that_are_not_there_come_with_near_names(folder):
    write(folder / "train.jsonl", row())
    assert error_of({"path": "trian.jsonl"}) == "trian.jsonl: there is no such file; did you mean 'train.jsonl'?"
    assert error_of({"path": "away/x.json"}).endswith("there is no folder 'away'")
    (folder / "d.json").mkdir()
    assert error_of({"path": "d.json"}) == "d.json: is a folder, not a file of samples"


def test_paths_may_use_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("MIXTUNE_HOME", str(folder))
    write(folder / "d.jsonl", row())
    samples, _ = read({"path": "$MIXTUNE_HOME/d.jsonl"})
    assert str(samples[0].images[0]) == str(folder / "images" / "a.png")


def test_image_entries(tmp_path):
    assert find_file("a.png", "images[0]", "/data") == ImageRef("/data/a.png")
    assert find_file("/x/a.png", "images[0]", "/data") == ImageRef("/x/a.png")
    assert find_file("file:///x/a.png", "images[0]", "/data") == ImageRef("/x/a.png")
    assert find_file({"path": "a.png"}, "images[0]", "/data") == ImageRef("/data/a.png")
    for entry, reason in (
        (5, "is no path of an image"),
        ("", "is no path"),
        ("https://x/a.png", "is an address"),
    ):
        with pytest.raises(RowError, match=reason):
            find_file(entry, "images[0]", "/data")


def test_the_first_samples_of_every_task_are_kept(folder):
    rows = [row(id=f"{number}", task="ab"[number % 2]) for number in range(7)]
    write(folder / "d.jsonl", *rows)
    samples, bad = read({"path": str(folder / "d.jsonl")}, max_per_task=2)
    assert [sample.id for sample in samples] == ["0", "1", "2", "3"] and not bad
