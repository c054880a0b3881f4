"""Pictures of the conflict mix on disk: a folder a family, drawn once and shared by every strength and mix."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mixtune.pocket.assets import publish_folder
from mixtune.pocket.data import encode_picture, scratch_folder
from mixtune.pocket.tasks import PictureAssets
from mixtune.pocket.tasks.conflict import Family, make_scene
from mixtune.pocket.tasks.spec import Part

# Raised whenever a family's scenes or the counts below change: folders of another number are drawn again.
FORMAT = 1
SCENES = "scenes.json"
PARTS: dict[Part, int] = {"train": 600, "validation": 100, "test": 300}


def family_folder(root: Path, family: Family) -> Path:
    """Where a family's pictures are, below the folder of all pocket data."""
    return root / "scenes" / family.name


def picture_path(part: str, index: int) -> str:
    """Path of a picture inside its family's folder."""
    return f"{part}/{index:05d}.png"


def read_scenes(folder: Path) -> dict[str, Any] | None:
    """What `write_scenes` wrote; None where there is nothing, or a folder of another version."""
    try:
        found = json.loads((folder / SCENES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def write_scenes(
    out: Path,
    family: Family,
    assets: PictureAssets,
    *,
    parts: Mapping[Part, int] = PARTS,
    seed: int = 0,
    made: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Draw a family into the folder ``out`` and return the content of its ``scenes.json``.

    That is the seed, the counts, a SHA-256 over all answers and pixels, and for each part the list of
    ``[label, answers]`` by index. ``made`` is called after each picture. The folder appears when complete.
    """
    scratch, digest = scratch_folder(out), hashlib.sha256()
    scenes: dict[str, list[Any]] = {}
    try:
        for part, count in parts.items():
            (scratch / part).mkdir()
            scenes[part] = []
            for index in range(count):
                scene = make_scene(family, part, index, assets, seed)
                (scratch / picture_path(part, index)).write_bytes(encode_picture(scene.image))
                scenes[part].append([scene.label, list(scene.answers)])
                digest.update(json.dumps(scenes[part][-1]).encode())
                digest.update(scene.image.tobytes())
                made()
        content = {"format": FORMAT, "family": family.name, "seed": seed, "sha256": digest.hexdigest()}
        content = {**content, "counts": dict(parts), "scenes": scenes}
        (scratch / SCENES).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        publish_folder(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return content
