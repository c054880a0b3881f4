"""Settings of a report."""

from __future__ import annotations

from typing import Literal

from mixtune.config import Settings


class ReportSettings(Settings):
    """What a report compares: `subject` against `baseline` (default: the mixture against "lora"), by the
    option ranking or the greedy answer (`way`), with `samples` pictures. `note` is printed under the answer,
    `command` with the settings. An empty title is chosen by what the report shows.
    """

    title: str = ""
    subject: str | None = None
    baseline: str | None = None
    way: Literal["rank", "greedy"] = "rank"
    samples: int = 12
    note: str = ""
    command: str = ""
