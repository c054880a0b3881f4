"""Checkpoints that are whole or absent, and the questions asked of a run's folder before anything is loaded.

A checkpoint is written into a hidden sibling folder, forced to disk and renamed into place in one step, so a kill at
any moment leaves either the complete `checkpoint-N` or a hidden leftover that the next start removes. Rotation works
the other way round: an old checkpoint is first renamed to a hidden name, then deleted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from mixtune.config import ConfigError, Recipe, dump_recipe, load_recipe, write_atomic, writing_error

RECIPE_FILE = "recipe.yaml"
STATE_FILE = "sampler_state.json"
RESULT_FILE = "train_result.json"
FINAL_FILES = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "projector.safetensors",
    "projector.json",
    "weights.safetensors",
    "weights.json",
    "README.md",
)
DRAFT, DOOMED = ".partial-", ".old-"
BYTES_PER_PARAMETER = 12  # a float32 weight and the two float32 moments of AdamW
DISK_MARGIN = 128 * 2**20
# Fields that may differ between a run and its continuation, because no weight depends on them.
FREE_FIELDS = frozenset(
    {"train.output_dir", "train.report_to", "train.save_steps", "train.save_total_limit", "train.routing_stats_steps"}
    | {"data.dataloader_num_workers", "data.max_bad", "data.feature_cache_limit"}
)


class CheckpointError(ValueError):
    """A run's folder cannot be used as asked; the message names the file or field."""


def _number(path: Path) -> int:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match.group(1)) if match and path.is_dir() else -1


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if _number(path) >= 0]
    return sorted(found, key=_number)


def clean_leftovers(folder: Path) -> None:
    """Remove what a killed run left unfinished: drafts of checkpoints and half-deleted old ones."""
    for prefix in (DRAFT, DOOMED):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(draft: Path, final: Path) -> None:
    """Force a draft folder's files to disk, then make it `final` in one rename (replacing an older folder)."""
    for path in sorted(draft.rglob("*")):
        _sync(path)
    if final.exists():
        discard(final)
    os.replace(draft, final)
    _sync(final.parent)


def discard(folder: Path) -> None:
    """Delete a checkpoint so that no moment shows half of it: rename to a hidden name, then remove."""
    doomed = folder.with_name(f"{DOOMED}{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def rotate(folder: Path, limit: int | None) -> None:
    """Keep the `limit` newest checkpoints (None: all)."""
    if limit is not None:
        for path in list_checkpoints(folder)[: -max(limit, 1)]:
            discard(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run's folder. Raises CheckpointError naming the file if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); remove that folder or pass --no-resume") from error


def check_writable(folder: Path) -> None:
    """Raise CheckpointError unless files can be made in `folder` (`writing_error`)."""
    error = writing_error(folder)
    if error is not None:
        raise CheckpointError(
            f"train.output_dir: '{folder}' cannot be written to: {error.strerror}: '{error.filename}'"
        )


def check_disk(folder: Path, *, parameters: int, checkpoints: int) -> None:
    """Raise CheckpointError unless the disk has room for `checkpoints` of `parameters` trained numbers each.

    Counted as 12 bytes a number (weight and AdamW's two moments) and a margin of 128 MiB.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    needed = checkpoints * parameters * BYTES_PER_PARAMETER + DISK_MARGIN
    if free < needed:
        raise CheckpointError(
            f"train.output_dir: '{folder}' has {free / 2**30:.2f} GiB free but the run needs {needed / 2**30:.2f} GiB: "
            f"{checkpoints} checkpoints of {parameters:,} trained parameters at {BYTES_PER_PARAMETER} bytes, and a "
            f"margin; free space, lower train.save_total_limit or write elsewhere"
        )


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, (dict, list, tuple)):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        flat.update(_flat(child, f"{path}.{key}" if path else str(key)))
    return flat


def changed_fields(old: Recipe, new: Recipe) -> list[str]:
    """One line for each field that differs and on which the weights depend: `train.learning_rate: was 1, now 2`."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    lines = []
    for name in sorted(before.keys() | after.keys()):
        free = any(name == field or name.startswith(f"{field}.") for field in FREE_FIELDS)
        if not free and before.get(name) != after.get(name):
            lines.append(f"{name}: was {before.get(name)!r}, now {after.get(name)!r}")
    return lines


def check_same_recipe(folder: Path, recipe: Recipe) -> None:
    """Raise CheckpointError naming every changed field if `folder` holds a run of another recipe."""
    try:
        old = load_recipe(folder / RECIPE_FILE)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: holds a run without a readable recipe: {error}") from error
    changed = changed_fields(old, recipe)
    if changed:
        listed = "\n  ".join(changed)
        raise CheckpointError(
            f"{folder}: holds a run of another recipe:\n  {listed}\n"
            f"Use another train.output_dir, or --no-resume to discard that run."
        )


def check_same_data(checkpoint: Path, fingerprint: str) -> None:
    """Raise CheckpointError if a checkpoint was made on other samples than those with this sampler fingerprint."""
    saved = read_json(checkpoint / STATE_FILE)["sampler"]["fingerprint"]
    if saved != fingerprint:
        raise CheckpointError(
            f"{checkpoint}: was trained on other data (data.sources: fingerprint {saved}, now {fingerprint}); "
            f"restore the data, use another train.output_dir, or --no-resume to discard that run"
        )


def begin_anew(folder: Path) -> None:
    """Remove what an earlier run left in its folder: result, weights, card, log, checkpoints; foreign files stay."""
    for name in (
        RESULT_FILE,
        *FINAL_FILES,
        "train_log.jsonl",
        "routing_log.jsonl",
        RECIPE_FILE,
    ):  # first what says "finished"
        (folder / name).unlink(missing_ok=True)
    for path in list_checkpoints(folder):
        discard(path)


def record_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the recipe beside the run, as it will be compared on resume."""
    write_atomic(folder / RECIPE_FILE, dump_recipe(recipe))
