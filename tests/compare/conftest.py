"""One tiny comparison that is run once and that nobody may change."""

from __future__ import annotations

import pytest

from compare.comparisons import InProcess, comparison, run

ARMS = {
    "untuned": {"kind": "untuned"},
    "lora": {"adapter": {"preset": "lora"}},
    "mixlora": {"adapter": {"preset": "mixlora"}},
    "specialists": {"kind": "specialists", "adapter": {"preset": "lora"}},
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """(its folder, its settings, the launcher that ran its commands, what came of it)."""
    root = tmp_path_factory.mktemp("comparison")
    settings, launch = comparison(root, arms=ARMS, protocol="conditional-mixlora"), InProcess()
    return root, settings, launch, run(root, settings, launch)
