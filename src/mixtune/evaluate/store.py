"""The output folder of an evaluation: a header, one line a sample as soon as it is answered, results at the end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixtune.config import write_atomic
from mixtune.data.sample import BadSample

HEADER, SAMPLES, RESULTS = "evaluation.json", "samples.jsonl", "results.json"
AGAINST, LEFT_OUT = "against.json", "left_out.jsonl"


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically (see `write_atomic`); NaN and infinity are refused with ValueError."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_left_out(folder: Path, bad: Sequence[BadSample]) -> None:
    """List unreadable samples in left_out.jsonl, a line each (origin, field, value, reason); no file for none."""
    path, lines = folder / LEFT_OUT, [json.dumps(dataclasses.asdict(each), ensure_ascii=False) + "\n" for each in bad]
    if lines:
        write_atomic(path, "".join(lines))
    else:
        path.unlink(missing_ok=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every complete line of a samples.jsonl; a last line cut short by a kill is left out.

    Raises ValueError naming file and line where one before the last is not JSON.
    """
    rows = []
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error}); delete the file to evaluate again") from None
    return rows


class SampleStore:
    """Answers of one evaluation on disk; with the same `fingerprint` an interrupted one goes on where it stopped.

    A folder that holds answers of another evaluation (other settings, samples or weights) is an error that says what
    differs, as the headers' ``parts`` tell it; without `resume` they are discarded, since the results would mix two
    evaluations. `done` maps the ids already answered to their rows. Raises ValueError.
    """

    def __init__(
        self, folder: str | Path, fingerprint: str, header: Mapping[str, Any] | None = None, *, resume: bool = True
    ):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, dict[str, Any]] = {}
        path, samples = self.folder / HEADER, self.folder / SAMPLES
        self.header = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if resume and self.header.get("fingerprint") == fingerprint:
            if samples.exists():
                self.done = {row["id"]: row for row in read_lines(samples)}
        else:
            if resume and self._holds_answers():
                raise ValueError(_another_evaluation(self.folder, self.header, header or {}))
            # Answers go first: a kill between these lines must not leave old answers under a new header.
            for name in (RESULTS, AGAINST, SAMPLES):
                (self.folder / name).unlink(missing_ok=True)
            self.header = {**(header or {}), "fingerprint": fingerprint}
            write_json(path, self.header)
        self._drop_torn_line(samples)

    def _holds_answers(self) -> bool:
        samples = self.folder / SAMPLES
        return (self.folder / RESULTS).exists() or (samples.exists() and samples.stat().st_size > 0)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of one batch and hand them to the operating system before returning."""
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        with (self.folder / SAMPLES).open("ab") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        self.done.update({row["id"]: dict(row) for row in rows})

    def note(self, **facts: Any) -> None:
        """Add facts to the header, on disk at once."""
        self.header.update(facts)
        write_json(self.folder / HEADER, self.header)

    @staticmethod
    def _drop_torn_line(path: Path) -> None:
        if not path.exists():
            return
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)


def _another_evaluation(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What to tell a user whose folder holds another evaluation: a line for every part that differs."""
    before, now = old.get("parts", {}), new.get("parts", {})
    names = [name for name in now if before.get(name) != now[name]]
    lines = [f"  {name}: was {before.get(name, 'not recorded')}, now {now[name]}" for name in names]
    return "\n".join(
        [
            f"{folder}: holds another evaluation:",
            *lines,
            "Use another --out, or --no-resume to discard its answers.",
        ]
    )


def weights_digest(model: nn.Module) -> str:
    """A short digest of a model's weights: every tensor's name, shape,
    dtype and up to 256 of its values, evenly spaced.

    It tells a retrained adapter from the one before (training changes nearly every value) in milliseconds; it
    is no proof against tampering.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 256)][:256].to("cpu", torch.float32)
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(sample.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
