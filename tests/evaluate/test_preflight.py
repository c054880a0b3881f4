"""What is asked before a model is loaded."""

import pytest

from mixtune.evaluate.preflight import check_adapter, check_writable


def test_an_adapter_is_asked_for_by_its_file(tmp_path) -> None:
    (tmp_path / "lora" / "checkpoint-20").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds no adapter \(adapter_config.json is missing\)$"):
        check_adapter(tmp_path / "lora")
    (tmp_path / "lora" / "checkpoint-20" / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="; checkpoint-20 in it has one"):
        check_adapter(tmp_path / "lora")
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    check_adapter(tmp_path / "lora")
    with pytest.raises(ValueError, match=r"no such folder with adapter_config\.json; did you mean 'lora'"):
        check_adapter(tmp_path / "loar")


def test_a_place_that_takes_no_files_is_named(tmp_path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--out .*file.*: cannot be written to"):
        check_writable(tmp_path / "file" / "evaluation")
