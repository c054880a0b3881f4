"""Writing an adapter's folder so that it is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

from peft import PeftModel
from torch import Tensor

from mixtune.adapters.convert.conversion import REPORT_FILE, Conversion
from mixtune.adapters.loading import check_tensors
from mixtune.config.files import write_atomic


def check_free(out: Path) -> None:
    """Raises ValueError unless `out` is a new or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already; name a new folder")


def write_folder(out: Path, twin: PeftModel, tensors: Mapping[str, Tensor], conversion: Conversion) -> None:
    """Write adapter, card and report through a hidden sibling and one rename.

    twin: carries the adapter, its own values do not matter; tensors: the values, by their names in it.
    Raises ValueError, naming them, if `tensors` are not exactly the adapter's.
    """
    adapter = twin.active_adapter
    check_tensors(twin, adapter, tensors)
    draft = out.with_name(f".{out.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*base_model_name_or_path.*", category=UserWarning)
        twin.save_pretrained(str(draft), state_dict=dict(tensors), save_embedding_layers=False)
    (draft / "README.md").write_text(conversion.card(), encoding="utf-8")
    write_atomic(draft / REPORT_FILE, conversion.to_json())
    check_free(out)
    if out.exists():
        out.rmdir()
    os.replace(draft, out)
