"""What `mixtune analyse` means by `pocket`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mixtune.analyse.subject import AnalysisRequest
from mixtune.evaluate.settings import TaskGroup
from mixtune.pocket.benchmark import groups
from mixtune.pocket.prepare import MODEL, SPLITS, mix_file, prepare_mix, prepare_pocket


def resolve_analysis(request: AnalysisRequest) -> AnalysisRequest:
    """The request with `pocket` and, as data, `pocket/SPLIT` and `pocket/MIX[/SPLIT]` (default: train) replaced by a
    folder and files, prepared where missing; domain and split of the pocket tasks filled in.

    Raises ValueError naming an unknown split or mix and one like it.
    """
    names, places = (*request.data, *request.unseen), dict[str, TaskGroup]()
    files = {name: _file(name) for name in names if name.partition("/")[0] == MODEL}
    for file in files.values():
        places |= groups(file.parent)
    changes: dict[str, Any] = {}
    if files:
        changes = {
            "data": tuple(str(files.get(name, name)) for name in request.data),
            "unseen": tuple(str(files.get(name, name)) for name in request.unseen),
            "data_names": names,
            "places": places,
        }
    if request.model == MODEL:
        changes |= {"model": str(prepare_pocket().model), "name": MODEL}
    return request.model_copy(update=changes)


def _file(name: str) -> Path:
    """The file of a split of the demo or of a mix."""
    rest = name.partition("/")[2]
    if rest in SPLITS:
        return prepare_pocket(captions=rest == "captions").data / f"{rest}.jsonl"
    try:
        mix, split = mix_file(rest)
    except ValueError as error:
        raise ValueError(f"data: '{name}': {error}") from None
    return prepare_mix(mix) / f"{split}.jsonl"
