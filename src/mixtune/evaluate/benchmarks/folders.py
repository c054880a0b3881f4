"""Layouts of their own: MME's folders, CIFAR's binary version, MNIST's IDX files, a folder a class, Tiny LVLM's."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

from mixtune.data.sample import BadSample, DataError, ImageRef
from mixtune.evaluate.benchmarks.rows import Pictures, items_of, json_rows
from mixtune.evaluate.benchmarks.table import Benchmark, FolderReader, Item, Items
from mixtune.evaluate.metrics import MME_COGNITION, MME_PERCEPTION

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def mme_folder(folder: Path, benchmark: Benchmark) -> Items | None:
    """MME_Benchmark_release_version: a folder a subtask, with ``NAME.txt`` (two lines "question TAB Yes") beside the
    picture ``NAME.jpg``, or in ``questions_answers_YN`` with the pictures in ``images``.
    """
    homes = [folder, folder / "MME_Benchmark", folder / "MME_Benchmark_release_version"]
    homes.append(homes[-1] / "MME_Benchmark")
    for home in homes:
        subtasks = [part for part in MME_PERCEPTION + MME_COGNITION if (home / part).is_dir()]
        if subtasks:
            return (item for part in subtasks for item in _mme_subtask(home / part))
    return None


def _mme_subtask(folder: Path) -> Items:
    texts = folder / "questions_answers_YN"
    texts, images = (texts, folder / "images") if texts.is_dir() else (folder, folder)
    for text in sorted(texts.glob("*.txt")):
        image = next((file for kind in PICTURES if (file := images / f"{text.stem}{kind}").is_file()), None)
        try:
            lines = text.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            yield BadSample(str(text), "line", repr(error.object[:80]), f"is not UTF-8 (byte {error.start})")
            continue
        for number, line in enumerate((line for line in lines if line.strip()), start=1):
            question, _, answer = line.rstrip().rpartition("\t")
            origin = f"{text}:{number}"
            if answer.strip().lower() not in ("yes", "no") or not question:
                yield BadSample(origin, "line", repr(line[:80]), "is not `question TAB Yes` or `question TAB No`")
                continue
            yield Item(
                id=f"{text.stem}/{number}",
                question=question.strip(),
                answers=(answer.strip().capitalize(),),
                image=ImageRef(str(image or images / f"{text.stem}.jpg")),
                part=folder.name,
                cluster=text.stem,
                origin=origin,
            )


def cifar_folder(folder: Path, benchmark: Benchmark) -> Items | None:
    """CIFAR's binary version: ``test_batch.bin`` (1 label byte a record) or CIFAR-100's ``test.bin`` (coarse and fine
    label), then 3,072 bytes of red, green and blue planes, 32 x 32. Never the Python version, which is a pickle.
    """
    coarse = len(benchmark.options) == 100
    name = "test.bin" if coarse else "test_batch.bin"
    homes = [folder, folder / ("cifar-100-binary" if coarse else "cifar-10-batches-bin")]
    path = next((home / name for home in homes if (home / name).is_file()), None)
    if path is None:
        pickled = [home / ("test" if coarse else "test_batch") for home in homes]
        pickled += [folder / ("cifar-100-python/test" if coarse else "cifar-10-batches-py/test_batch")]
        if any(file.is_file() for file in pickled):
            raise DataError(f"{folder}: holds the Python version of {benchmark.title}, a pickle; {benchmark.obtain}")
        return None
    _check_classes(path.with_name("fine_label_names.txt" if coarse else "batches.meta.txt"), benchmark)
    return _cifar_items(path, benchmark, 2 if coarse else 1)


def _check_classes(path: Path, benchmark: Benchmark) -> None:
    """DataError if the file of class names, where there is one, has not the benchmark's classes in their order."""
    if path.is_file():
        names = tuple(line.strip().replace("_", " ") for line in path.read_text().splitlines() if line.strip())
        if names != benchmark.options:
            raise DataError(f"{path}: its {len(names)} names are not the classes of {benchmark.title} in their order")


def _cifar_items(path: Path, benchmark: Benchmark, labels: int) -> Items:
    data, record = path.read_bytes(), labels + 3072
    if not data or len(data) % record:
        raise DataError(f"{path}: {len(data)} bytes are no whole number of records of {record} bytes")
    for number in range(len(data) // record):
        label, pixels = data[number * record + labels - 1], number * record + labels
        yield _picture_item(path, number, label, benchmark, partial(_ppm, data, pixels))


def _ppm(data: bytes, start: int) -> bytes:
    """A 32 x 32 picture whose three planes follow each other, as a PPM file."""
    red, green, blue = (data[start + plane : start + plane + 1024] for plane in (0, 1024, 2048))
    return b"P6 32 32 255\n" + bytes(value for pixel in zip(red, green, blue, strict=True) for value in pixel)


def mnist_folder(folder: Path, benchmark: Benchmark) -> Items | None:
    """MNIST's IDX files ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, with or without ``.gz``."""
    found = {}
    for kind in ("images-idx3", "labels-idx1"):
        names = [f"t10k-{kind}-ubyte{end}" for end in ("", ".gz")] + [f"t10k-{kind.replace('-', '.', 1)}-ubyte"]
        homes = [folder, folder / "raw", folder / "MNIST" / "raw"]
        found[kind] = next((home / name for home in homes for name in names if (home / name).is_file()), None)
    images, labels = found["images-idx3"], found["labels-idx1"]
    if images is None or labels is None:
        return None
    return _mnist_items(images, labels, benchmark)


def _mnist_items(images: Path, labels: Path, benchmark: Benchmark) -> Items:
    pixels, (count, height, width) = _idx(images, 3)
    classes, (labelled,) = _idx(labels, 1)
    if count != labelled:
        raise DataError(f"{images}: {count} pictures, but {labelled} labels in {labels}")
    for number in range(count):
        start = number * height * width
        yield _picture_item(images, number, classes[number], benchmark, partial(_pgm, pixels, start, height, width))


def _pgm(pixels: bytes, start: int, height: int, width: int) -> bytes:
    return b"P5 %d %d 255\n" % (width, height) + pixels[start : start + height * width]


def _idx(path: Path, dimensions: int) -> tuple[bytes, tuple[int, ...]]:
    """Values and sizes of an IDX file of unsigned bytes: two zero bytes, 8, the number of dimensions, each size as a
    big-endian 32-bit number, then the values.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path}: is no IDX file of bytes with {dimensions} dimension(s)")
    sizes = tuple(int.from_bytes(data[4 + 4 * at : 8 + 4 * at], "big") for at in range(dimensions))
    values, expected = data[4 + 4 * dimensions :], 1
    for size in sizes:
        expected *= size
    if len(values) != expected:
        raise DataError(f"{path}: {len(values)} values, but its sizes {sizes} make {expected}")
    return values, sizes


def _picture_item(path: Path, number: int, label: int, benchmark: Benchmark, read: partial[bytes]) -> Item | BadSample:
    origin = f"{path}[{number}]"
    if label >= len(benchmark.options):
        return BadSample(origin, "label", str(label), f"is none of the {len(benchmark.options)} classes")
    image, answers = ImageRef(f"{path}#{number}", read), (benchmark.options[label],)
    return Item(id=str(number), question="", answers=answers, image=image, origin=origin)


def class_folder(folder: Path, benchmark: Benchmark) -> Items | None:
    """A folder of pictures for every class, named after it (spaces or underscores), perhaps inside ``test``."""
    by_name = {option.replace(" ", "_").lower(): option for option in benchmark.options}
    for home in (folder / "test", folder):
        homes = [path for path in sorted(home.glob("*")) if path.name.replace(" ", "_").lower() in by_name]
        if homes and all(path.is_dir() for path in homes):
            return (item for path in homes for item in _class_items(path, by_name))
    return None


def _class_items(folder: Path, by_name: dict[str, str]) -> Items:
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in PICTURES:
            answers = (by_name[folder.name.replace(" ", "_").lower()],)
            name = f"{folder.name}/{file.name}"
            yield Item(id=name, question="", answers=answers, image=ImageRef(str(file)), origin=str(file))


def tiny_lvlm_folder(folder: Path, benchmark: Benchmark) -> Items | None:
    """Tiny LVLM-eHub's subset: a folder for each of five abilities with ``dataset.json`` and the pictures it names."""
    homes = [home for home in (folder, folder / "updated_datasets") if any(home.glob("*/dataset.json"))]
    if not homes:
        return None
    files = sorted(homes[0].glob("*/dataset.json"))
    return (
        item
        for file in files
        for item in items_of(json_rows(file), benchmark, Pictures(file.parent, ()), part=file.parent.name)
    )


def first_layout(*readers: FolderReader) -> FolderReader:
    """A reader of whichever of the layouts a folder is in."""

    def read(folder: Path, benchmark: Benchmark) -> Items | None:
        return next((items for reader in readers if (items := reader(folder, benchmark)) is not None), None)

    return read
