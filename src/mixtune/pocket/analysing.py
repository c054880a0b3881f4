"""What `mixtune analyse` means by `pocket`."""

from __future__ import annotations

from mixtune.analyse.subject import AnalysisRequest
from mixtune.config import near
from mixtune.pocket.benchmark import groups
from mixtune.pocket.prepare import MODEL, SPLITS, PocketPaths, prepare_pocket


def resolve_analysis(request: AnalysisRequest) -> AnalysisRequest:
    """The request with `pocket` and, as data, `pocket/<split>` replaced by a folder and files, prepared where missing;
    domain and split of the pocket tasks filled in.

    Raises ValueError naming an unknown split and one like it.
    """
    names = (*request.data, *request.unseen)
    splits = [name.partition("/")[2] for name in names if name.partition("/")[0] == MODEL]
    for split in splits:
        if split not in SPLITS:
            raise ValueError(f"data: '{MODEL}/{split}' is no pocket split{near(split, SPLITS)}")
    if request.model != MODEL and not splits:
        return request
    paths = prepare_pocket(captions="captions" in splits)
    changes = {
        "data": tuple(_file(name, paths) for name in request.data),
        "unseen": tuple(_file(name, paths) for name in request.unseen),
        "data_names": names,
        "places": groups(paths) if splits else {},
    }
    if request.model == MODEL:
        changes |= {"model": str(paths.model), "name": MODEL}
    return request.model_copy(update=changes)


def _file(name: str, paths: PocketPaths) -> str:
    place, _, split = name.partition("/")
    return str(paths.data / f"{split}.jsonl") if place == MODEL else name
