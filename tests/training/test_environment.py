import torch

from mixtune.training.environment import PACKAGES, describe_environment, peak_memory, versions


def test_versions_name_every_package_a_result_depends_on():
    found = versions()
    assert set(found) == {"python", *PACKAGES}
    assert found["torch"] != "not installed"


def test_the_environment_says_device_and_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path))
    found = describe_environment()
    assert found["home"] == str(tmp_path)
    assert int(found["threads"]) >= 1 and found["device"]


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory()["host"]
    held = torch.ones(before // 8 + 2**24)  # four bytes each: half of what was held, and 64 MiB
    assert peak_memory()["host"] - before > held.nbytes // 2
