"""Progress bars of loops over samples."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class SamplesPerSecond(ProgressColumn):
    """Speed of the last samples, or a dash before it is known."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(f"{task.speed:.1f} samples/s" if task.speed else "– samples/s", style="progress.data.speed")


def sample_progress() -> Progress:
    """A bar with the count, samples per second and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        SamplesPerSecond(),
        TimeRemainingColumn(compact=True),
    )
