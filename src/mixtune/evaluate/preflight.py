"""What is asked before a model is loaded: that the adapter is one and that the answers can be written."""

from __future__ import annotations

from pathlib import Path

from mixtune.config import near, writing_error
from mixtune.training.parts import PROJECTOR_CARD
from mixtune.training.whole import WEIGHTS_CARD

ADAPTER = "adapter_config.json"


def check_adapter(folder: Path) -> None:
    """Raises ValueError unless the folder holds an adapter, or the projector or the weights of a run of another stage;
    names folders near it that hold an adapter, or its newest checkpoint.
    """
    if any((folder / card).is_file() for card in (ADAPTER, PROJECTOR_CARD, WEIGHTS_CARD)):
        return
    if folder.is_dir():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{ADAPTER}"))
        hint = f"; {', '.join(inside)} in it has one" if inside else ""
        raise ValueError(f"--adapter {folder}: holds no adapter ({ADAPTER} is missing){hint}")
    beside = sorted(path.parent.name for path in folder.parent.glob(f"*/{ADAPTER}"))
    raise ValueError(f"--adapter {folder}: there is no such folder with {ADAPTER}{near(folder.name, beside)}")


def check_writable(folder: Path) -> None:
    """Raises ValueError unless files can be made in the folder (`writing_error`)."""
    error = writing_error(folder)
    if error is not None:
        raise ValueError(f"--out {folder}: cannot be written to: {error.strerror}: '{error.filename}'")
