"""What a row of the table of benchmarks is made of, and what readers give.

The public benchmarks are rows of `mixtune.evaluate.benchmarks.registry.BENCHMARKS`; the pocket suite adds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from mixtune.data.sample import BadSample, ImageRef, Sample
from mixtune.evaluate.metrics import Numbers, ranked_numbers
from mixtune.evaluate.scoring import Scorer
from mixtune.evaluate.settings import TaskGroup


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question as a reader gives it, the main answer first; `part` of the benchmark, `cluster` its image's name."""

    id: str
    question: str
    answers: tuple[str, ...]
    image: ImageRef
    part: str = ""
    cluster: str = ""
    origin: str = ""


Items: TypeAlias = Iterator["Item | BadSample"]
FolderReader: TypeAlias = Callable[[Path, "Benchmark"], "Items | None"]
"""Items of a folder in the benchmark's own layout; None if the folder is not in it."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Questions that are samples already, options and right answers included, and the groups of their tasks."""

    samples: Sequence[Sample]
    groups: Mapping[str, TaskGroup]


DrawnReader: TypeAlias = Callable[[str], Drawn]
"""What follows the row's name in `--benchmark` ("" or, say, "-0.5/validation") to questions that are samples."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names that a field goes by in JSON, TSV and parquet files; the first one that a row has counts.

    `image_name` makes a file name of the image's entry ("{}.jpg" of an id). `answer_of` maps what the files say (lower
    case) to the benchmark's answers, `part_of` to its parts; others are taken as they are.
    """

    id: tuple[str, ...] = ("question_id", "questionId", "index", "id")
    question: tuple[str, ...] = ("question",)
    answers: tuple[str, ...] = ("answers", "answer")
    image: tuple[str, ...] = ("image", "image_path")
    part: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    image_name: str = "{}"
    answer_of: Mapping[str, str] = field(default_factory=dict)
    part_of: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a benchmark is asked and scored by one harness.

    `prompt` has {question} and {options} filled in; `rephrase` changes the question before. `numbers` makes the numbers
    of rows answered greedily, `ranked` those of ranked ones; `headlines` names those that tables and paired tests show.
    `source` says where the rule is from, `differs` what it does unlike the official one.
    """

    prompt: str
    score: Scorer
    numbers: Numbers
    headlines: tuple[str, ...]
    source: str
    differs: str = ""
    rephrase: Callable[[str], str] = str
    ranked: Numbers = ranked_numbers


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: where its questions are, how they are asked, scored and added up.

    `files` are names of the official files (patterns), looked for in the folder and two levels below; `images` the
    folders their pictures lie in. `folder` reads a layout of its own. `dataset` (with `config` and `split`) is the id
    that a name alone stands for, None where none has both pictures and labels. `options` are the answers to rank.
    `part_of_file` and `part_of_answers` tell parts apart where no column does. `pairs`: two questions an image. `size`:
    how many questions the whole set has, None where that is not sure. `drawn`: the questions are mixtune's own samples,
    in an order whose beginning is as balanced as the whole; the fields about files and options then say nothing.
    """

    name: str
    title: str
    obtain: str
    protocols: Mapping[str, Protocol]
    columns: Columns = Columns()
    files: tuple[str, ...] = ()
    images: tuple[str, ...] = ("images",)
    folder: FolderReader | None = None
    dataset: str | None = None
    config: str | None = None
    split: str = "test"
    options: tuple[str, ...] = ()
    max_new_tokens: int = 16
    part_of_file: Callable[[Path], str] | None = None
    part_of_answers: Callable[[Sequence[str]], str] | None = None
    pairs: bool = False
    size: int | None = None
    drawn: DrawnReader | None = None
