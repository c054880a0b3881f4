"""Every benchmark from its official files, and what a wrong name or place is told."""

from pathlib import Path

import pytest

import official_files
from mixtune.data.sample import BadSample, DataError, load_image
from mixtune.evaluate.benchmarks.registry import BENCHMARKS, protocol_of, read_items, wanted


def read(text):
    return list(read_items(wanted(text)))


def items_of(name, folder):
    return read(f"{name}={official_files.BUILDERS[name](folder)}")


def test_there_is_a_writer_for_every_benchmark() -> None:
    assert set(official_files.BUILDERS) == set(BENCHMARKS)


EXPECTED = {
    "mme": ["Yes", "No"] * 3,
    "pope": ["yes", "no"] * 2,
    "textvqa": ["dakota digital"],
    "vsr": ["true", "false"],
    "snli-ve": ["entailment", "neutral", "contradiction"],
    "cifar10": ["cat", "ship"],
    "cifar100": ["orange"],
    "mnist": ["7", "2"],
    "pathvqa": ["liver cells", "yes"],
    "chartqa": ["12", "Sweden"],
    "docvqa": ["university of california"],
    "tiny-lvlm": ["yes", "two"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_official_files_are_read(name, tmp_path) -> None:
    items = items_of(name, tmp_path)
    assert [item.answers[0] for item in items] == EXPECTED[name]
    assert all(load_image(item.image).size[0] > 0 for item in items)
    assert len({(item.part, item.id) for item in items}) == len(items)


PARTS = {
    "mme": ["count"] * 4 + ["posters"] * 2,
    "pope": ["random"] * 2 + ["popular"] * 2,
    "pathvqa": ["open", "closed"],
    "chartqa": ["human", "augmented"],
    "tiny-lvlm": ["Object_Hallucination", "Visual_Reasoning"],
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_told_apart(name, tmp_path) -> None:
    assert [item.part for item in items_of(name, tmp_path)] == PARTS[name]


def test_all_references_are_kept_the_most_frequent_first(tmp_path) -> None:
    (item,) = items_of("textvqa", tmp_path)
    assert item.answers == ("dakota digital",) * 9 + ("Dakota",)
    assert item.cluster == "ab12" and item.question == "what is the BRAND?"


def test_images_are_clusters_where_questions_share_them(tmp_path) -> None:
    assert [item.cluster for item in items_of("mme", tmp_path / "m")] == ["0001"] * 2 + ["0002"] * 2 + ["tt01"] * 2
    assert {item.cluster for item in items_of("pope", tmp_path / "p")} == {"COCO_1.jpg"}
    assert {item.cluster for item in items_of("vsr", tmp_path / "v")} == {"000000017697.jpg"}
    assert {item.cluster for item in items_of("docvqa", tmp_path / "d")} == {"14465"}


def test_a_text_that_looks_like_a_list_is_one_answer_outside_of_tsv(tmp_path) -> None:
    folder = official_files.chartqa(tmp_path)
    row = {"imgname": "41699051005347.png", "query": "Which?", "label": "[1, 2]"}
    official_files.write_json(folder / "test" / "test_human.json", [row])
    assert read(f"chartqa={folder}")[0].answers == ("[1, 2]",)


def test_binary_pictures_keep_planes_and_rows(tmp_path) -> None:
    cat, ship = items_of("cifar10", tmp_path / "c")
    assert load_image(cat.image).getpixel((0, 0)) == (0, 255, 0)
    assert load_image(cat.image).getpixel((1, 0)) == (200, 30, 30)
    assert load_image(ship.image).getpixel((31, 31)) == (30, 30, 200)
    plain = read(f"mnist={official_files.mnist(tmp_path / 'm', zipped=False)}")
    assert [load_image(item.image).getpixel((5, 5)) for item in plain] == [(10, 10, 10), (240, 240, 240)]


def test_a_folder_a_class_is_read_too(tmp_path) -> None:
    for name in ("maple_tree", "cup"):
        official_files.picture(tmp_path / "test" / name / "1.png")
    assert [item.answers for item in read(f"cifar100={tmp_path}")] == [("cup",), ("maple tree",)]


def test_a_pickle_is_refused_unread(tmp_path) -> None:
    batch = tmp_path / "cifar-10-batches-py" / "test_batch"
    batch.parent.mkdir()
    batch.write_bytes(b"\x80\x04N.")
    with pytest.raises(DataError, match=r"the Python version of CIFAR-10, a pickle; take the binary version"):
        read(f"cifar10={tmp_path}")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("cifar10", "test_batch.bin", b"\0" * 3074, "no whole number of records of 3073 bytes"),
        ("mnist", "t10k-images-idx3-ubyte", b"\0\0\x09\x03", "is no IDX file of bytes with 3"),
        ("mnist", "t10k-images-idx3-ubyte", b"\0\0\x08\x03" + b"\0\0\0\1" * 3, "0 values, but its sizes"),
    ],
)
def test_broken_binaries_are_named(name, file, content, message, tmp_path) -> None:
    if name == "mnist":
        official_files.mnist(tmp_path, zipped=False)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(f"{name}={tmp_path}")


def test_other_class_names_beside_the_binary_are_an_error(tmp_path) -> None:
    official_files.cifar10(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="not the classes of CIFAR-10 in their order"):
        read(f"cifar10={tmp_path}")


def test_a_label_beyond_the_classes_is_a_bad_sample(tmp_path) -> None:
    (official_files.cifar10(tmp_path) / "test_batch.bin").write_bytes(bytes([10]) + b"\0" * 3072)
    (bad,) = read(f"cifar10={tmp_path}")
    assert isinstance(bad, BadSample) and "10 is none of the 10 classes" in str(bad)


def test_rows_that_cannot_be_used_say_why(tmp_path) -> None:
    official_files.picture(tmp_path / "images" / "a.jpg")
    rows = [
        {"image": "a.jpg", "caption": "Fine.", "label": 1},
        {"image": "a.jpg", "caption": "No label."},
        {"image": "a.jpg", "caption": "Odd label.", "label": 7},
        {"caption": "No picture.", "label": 0},
        {"image": "a.jpg", "label": 0},
    ]
    path = official_files.write_lines(tmp_path / "test.jsonl", rows)
    path.write_text(path.read_text() + "{oops\n")
    found = read(f"vsr={path}")
    bad = [str(each) for each in found if isinstance(each, BadSample)]
    assert len(found) == 6 and len(bad) == 5
    reasons = (
        "no answer",
        "none of the answers true, false",
        "names no picture",
        "the question is missing",
        "not JSON",
    )
    assert all(words in line for line, words in zip(bad, reasons, strict=True))
    assert f"{path}:3" in bad[1]


def test_a_text_of_mme_that_is_not_utf8_is_bad(tmp_path) -> None:
    (official_files.mme(tmp_path) / "count" / "0001.txt").write_bytes(b"\xff\xfeIs it?\tYes\n")
    bad = [each for each in read(f"mme={tmp_path}") if isinstance(each, BadSample)]
    assert len(bad) == 1 and "0001.txt" in str(bad[0]) and "not UTF-8" in str(bad[0])


def test_a_line_of_mme_without_its_answer_is_bad(tmp_path) -> None:
    (official_files.mme(tmp_path) / "count" / "0001.txt").write_text("Are there two?\tYes\nIs there one?\tMaybe\n")
    bad = [each for each in read(f"mme={tmp_path}") if isinstance(each, BadSample)]
    assert len(bad) == 1 and "0001.txt:2" in str(bad[0])


def test_names_and_places_that_are_none(tmp_path) -> None:
    with pytest.raises(ValueError, match="no benchmark 'mne'; did you mean 'mme'"):
        wanted("mne=/data")
    with pytest.raises(ValueError, match="neither a benchmark nor a file; did you mean 'textvqa'"):
        wanted("textvq")
    assert wanted("mine.jsonl") is None and wanted(str(tmp_path)) is None
    with pytest.raises(DataError, match=r"no such file or folder; to get POPE: output/coco of RUCAIBox/POPE"):
        read(f"pope={tmp_path / 'none'}")
    with pytest.raises(DataError, match=r"holds nothing that POPE is read from \(coco_pope_random.json"):
        read(f"pope={tmp_path}")
    with pytest.raises(
        DataError, match="no dataset id is known that has its pictures and labels; give a folder as snli"
    ):
        read("snli-ve")
    with pytest.raises(ValueError, match="--protocol lmms-eval: vsr has only official, vlmevalkit"):
        protocol_of(BENCHMARKS["vsr"], "lmms-eval")


def test_a_hub_dataset_that_cannot_be_had_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"(?s)lmms-lab-encoder/textvqa: split 'validation'.*give a folder as textvqa="):
        read("textvqa")


def test_every_protocol_names_its_source_and_what_differs() -> None:
    for row in BENCHMARKS.values():
        assert row.obtain and "official" in row.protocols
        for name, protocol in row.protocols.items():
            assert protocol.source and ("{question}" in protocol.prompt) == bool(row.columns.question), row.name
            assert name == "official" or protocol.differs, (row.name, name)
    assert len(BENCHMARKS["cifar100"].options) == 100 and len(set(BENCHMARKS["cifar100"].options)) == 100


def test_the_docs_have_a_line_for_every_benchmark_and_name_its_dataset() -> None:
    text = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for row in BENCHMARKS.values():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{row.name}` |")]
        assert row.dataset is None or f"| {row.dataset} |" in line
        for protocol in row.protocols:
            assert protocol in text
