"""A tiny comparison on disk, and a launcher that runs its commands in this process: no imports to wait for."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

import tiny
from mixtune.cli import app
from mixtune.cli.comparing import pocket_names
from mixtune.compare import Comparer, Ended, LocalPool, load_comparison

NAMES = pocket_names()


class InProcess:
    """Runs commands here and notes them; `dies_at` raises KeyboardInterrupt instead of the n-th one (from 0)."""

    def __init__(self, dies_at: int | None = None, breaks: str = "nothing"):
        self.commands: list[tuple[str, ...]] = []
        self.dies_at, self.breaks = dies_at, breaks

    def __call__(self, words: Sequence[str], log: Path, variables: Mapping[str, str], lock: int) -> int:
        if self.dies_at == len(self.commands):
            raise KeyboardInterrupt
        self.commands.append(tuple(words))
        if any(self.breaks in word for word in words):
            log.write_text("it broke\n")
            return 3
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                return app(list(words), standalone_mode=False) or 0  # the status of typer.Exit
        except SystemExit as error:
            return int(error.code or 0)
        except Exception as error:  # what a process would print
            printed.write(repr(error))
            return 1
        finally:
            with log.open("a") as file:
                file.write(printed.getvalue())


def write_model(folder: Path) -> Path:
    model, processor = tiny.tiny_llava()
    for part in (model, processor):
        part.save_pretrained(folder)
    return folder


def base(root: Path) -> dict:
    """The base recipe on the tiny model and 24 samples of two tasks, all under `root`; written there if missing."""
    if not (root / "model").exists():
        write_model(root / "model")
        tiny.tiny_samples(root / "train", 24, ("colour", "yesno"))
        tiny.tiny_samples(root / "test", 12, ("colour", "yesno"))
        tiny.tiny_samples(root / "validation", 8, ("colour", "yesno"))
    return {
        "model": {"name_or_path": str(root / "model"), "dtype": "float32"},
        "data": {"sources": [{"path": str(root / "train" / "samples.jsonl")}], "sampling": "equal"},
        "adapter": {"r": 2, "num_factors": 4},
        "train": {"learning_rate": 0.01, "max_steps": 3, "per_device_train_batch_size": 2, "logging_steps": 1},
    }


def comparison(root: Path, **changes) -> dict:
    """A comparison of plain LoRA and a mixture with two seeds; `changes` replace its keys."""
    settings = {
        "output_dir": str(root / "out"),
        "base": base(root),
        "arms": {"lora": {"adapter": {"preset": "lora"}}, "mixlora": {"adapter": {"preset": "mixlora"}}},
        "seeds": [0, 1],
        "scale": 2.0,
        "evaluate": {"benchmarks": [str(root / "test" / "samples.jsonl")]},
    }
    return {**settings, **changes}


def write(root: Path, settings: dict) -> Path:
    path = root / "compare.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def comparer(root: Path, settings: dict, launch: InProcess, **options) -> Comparer:
    loaded = load_comparison(write(root, settings))
    out = Path(loaded.settings.output_dir)
    return Comparer(loaded=loaded, names=NAMES, out=out, pool=LocalPool(1, launch), **options)


def run(root: Path, settings: dict, launch: InProcess, **options) -> Ended:
    return comparer(root, settings, launch, **options).run()
