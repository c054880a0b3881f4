"""What `mixtune check` means by `pocket`."""

from __future__ import annotations

from mixtune.check.run import CheckRequest
from mixtune.pocket.prepare import MODEL, data_file, prepare_pocket


def resolve_check(request: CheckRequest) -> CheckRequest:
    """The request with `pocket` and, as data, `pocket/SPLIT` and `pocket/MIX[/SPLIT]` (default: train) replaced by a
    folder and a file, prepared where missing.

    Raises ValueError naming an unknown split or mix and one like it.
    """
    changes: dict[str, str] = {}
    if (request.data or "").partition("/")[0] == MODEL:
        changes |= {"data": str(data_file(str(request.data)))}
    if request.model == MODEL:
        changes |= {"model": str(prepare_pocket().model), "name": MODEL}
    return request.model_copy(update=changes)
