"""What `mixtune analyse` means by `pocket`."""

from __future__ import annotations

from typing import Any

from mixtune.analyse.subject import AnalysisRequest
from mixtune.evaluate.settings import TaskGroup
from mixtune.pocket.benchmark import groups
from mixtune.pocket.prepare import MODEL, data_file, prepare_pocket


def resolve_analysis(request: AnalysisRequest) -> AnalysisRequest:
    """The request with `pocket` and, as data, `pocket/SPLIT` and `pocket/MIX[/SPLIT]` (default: train) replaced by a
    folder and files, prepared where missing; domain and split of the pocket tasks filled in.

    Raises ValueError naming an unknown split or mix and one like it.
    """
    names, places = (*request.data, *request.unseen), dict[str, TaskGroup]()
    files = {name: data_file(name) for name in names if name.partition("/")[0] == MODEL}
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
