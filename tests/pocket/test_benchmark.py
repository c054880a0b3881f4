"""The pocket suite's samples and places."""

from __future__ import annotations

import json

from mixtune.data import Message, Sample
from mixtune.pocket.benchmark import first_of_each, groups
from mixtune.pocket.prepare import PocketPaths


def test_the_first_of_each_task_in_order() -> None:
    samples = [Sample(id=str(i), messages=(Message("user", "q"),), images=(), task="ab"[i % 2]) for i in range(6)]
    assert [sample.id for sample in first_of_each(samples, 2)] == ["0", "1", "2", "3"]


def test_groups_come_from_the_manifest(tmp_path) -> None:
    manifest = {
        "tasks": {"letter": {"domain": "document", "split": "seen"}, "pie": {"domain": "document", "split": "unseen"}}
    }
    (tmp_path / "data.json").write_text(json.dumps(manifest))
    found = groups(PocketPaths(model=tmp_path, data=tmp_path))
    assert (found["letter"].split, found["pie"].split, found["pie"].domain) == ("seen", "unseen", "document")
