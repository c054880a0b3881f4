"""Finding and reading the folders a report is made from."""

import pytest

from fake_runs import USUAL, fake_run
from mixtune.analyse.runs import find_runs, read_runs


def test_models_are_found_and_ordered(tmp_path) -> None:
    folders = find_runs(fake_run(tmp_path, USUAL))
    assert sorted(folders) == ["lora", "mixlora", "untuned"]
    assert folders["untuned"].training is None
    runs = read_runs(folders, "mixlora", "lora")
    assert [run.label for run in runs] == ["mixlora", "lora", "untuned"]
    assert [len(run.log) for run in runs] == [2, 2, 0]
    assert [run.usage is not None for run in runs] == [True, False, False]
    assert runs[0].budget["parameters"]["factors"] == 1234567


def test_what_is_missing_or_broken_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="evaluate at least one model first"):
        find_runs(tmp_path)
    folders = find_runs(fake_run(tmp_path, USUAL))
    with pytest.raises(ValueError, match="did you mean 'lora'"):
        read_runs(folders, "mixlora", "lroa")
    samples = tmp_path / "lora" / "evaluation" / "samples.jsonl"
    lines = samples.read_text().splitlines()
    samples.write_text("\n".join([lines[0], "{broken", *lines[2:], ""]))
    with pytest.raises(ValueError, match=r"samples\.jsonl:2: not JSON"):
        read_runs(folders, "mixlora", "lora")
    samples.unlink()
    with pytest.raises(ValueError, match="has not finished"):
        read_runs(folders, "mixlora", "lora")
