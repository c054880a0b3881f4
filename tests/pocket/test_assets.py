"""Packages are fetched by pip, checked, and never half there."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from mixtune.pocket.assets import AssetError, Wheel, fetch_wheel, file_sha256, publish_folder


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A local folder with one tiny package in it, and pip told to look nowhere else."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    file = folder / "tinypackage-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tinypackage/__init__.py", "")
        archive.writestr(
            "tinypackage-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinypackage\nVersion: 1.0\n"
        )
        archive.writestr(
            "tinypackage-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinypackage-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Wheel(name="tinypackage", version="1.0", sha256=file_sha256(file), holds="nothing", licence="none")


def test_a_package_is_fetched_once(shelf: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch_wheel(shelf, tmp_path / "cache")
    assert file_sha256(path) == shelf.sha256
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))  # a second download could not succeed
    assert fetch_wheel(shelf, tmp_path / "cache") == path


def test_a_damaged_file_is_fetched_again(shelf: Wheel, tmp_path: Path) -> None:
    path = fetch_wheel(shelf, tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:50])
    assert file_sha256(fetch_wheel(shelf, tmp_path / "cache")) == shelf.sha256


def test_another_checksum_is_refused_and_nothing_stays(shelf: Wheel, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="SHA-256"):
        fetch_wheel(replace(shelf, sha256="0" * 64), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_unknown_version_names_the_requirement(shelf: Wheel, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"tinypackage==9\.9"):
        fetch_wheel(replace(shelf, version="9.9"), tmp_path / "cache")


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    for content in ("old", "new"):
        (tmp_path / "scratch").mkdir()
        (tmp_path / "scratch" / "file").write_text(content)
        publish_folder(tmp_path / "scratch", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
