"""What `mixtune check` means by `pocket`."""

from __future__ import annotations

from mixtune.check.run import CheckRequest
from mixtune.config import near
from mixtune.pocket.prepare import MODEL, SPLITS, prepare_pocket


def resolve_check(request: CheckRequest) -> CheckRequest:
    """The request with `pocket` and, as data, `pocket/<split>` replaced by a folder and a file, prepared where missing.

    Raises ValueError naming an unknown split and one like it.
    """
    place, _, split = (request.data or "").partition("/")
    if request.model != MODEL and place != MODEL:
        return request
    if place == MODEL and split not in SPLITS:
        raise ValueError(f"data: {request.data!r} is no pocket split{near(split, SPLITS)}")
    paths = prepare_pocket(captions=split == "captions")
    changes: dict[str, str] = {}
    if request.model == MODEL:
        changes |= {"model": str(paths.model), "name": MODEL}
    if place == MODEL:
        changes |= {"data": str(paths.data / f"{split}.jsonl")}
    return request.model_copy(update=changes)
