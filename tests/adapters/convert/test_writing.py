import os

import pytest

import released_files as made
from mixtune.adapters.convert import convert_released


@pytest.fixture
def source(tmp_path):
    return made.write_mixlora(tmp_path / "released", made.mixlora(made.base("linear")))


def test_the_folder_is_there_whole_or_not_at_all(tmp_path, source, monkeypatch):
    out = tmp_path / "new" / "out"
    replace = os.replace

    def stop_at_the_folder(draft, target):
        if target == out:
            raise KeyboardInterrupt
        replace(draft, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop_at_the_folder)
        with pytest.raises(KeyboardInterrupt):
            convert_released(source, made.on_meta("linear"), out)
    assert not out.exists()
    convert_released(source, made.on_meta("linear"), out)
    wanted = ["README.md", "adapter_config.json", "adapter_model.safetensors", "conversion.json"]
    assert sorted(os.listdir(out)) == wanted
    assert os.listdir(tmp_path / "new") == ["out"], "what the interrupted conversion left is gone"


def test_what_is_there_is_not_written_over(tmp_path, source):
    out = tmp_path / "out"
    out.mkdir()
    convert_released(source, made.on_meta("linear"), out)  # an empty folder is as good as none
    with pytest.raises(ValueError, match="out: exists already; name a new folder"):
        convert_released(source, made.on_meta("linear"), out)
