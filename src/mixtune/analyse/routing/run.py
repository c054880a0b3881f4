"""Record what routers choose for each task, hold it against routers that never learnt, and say what differs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from mixtune.analyse.routing import measures
from mixtune.analyse.routing.maps import tsne
from mixtune.analyse.routing.pictures import write_picture
from mixtune.analyse.routing.recording import Selections, record_selections, untrained_routers
from mixtune.analyse.routing.settings import RoutingSettings
from mixtune.analyse.selections import DEPTHS, layer_place
from mixtune.analyse.subject import AnalysisRequest, Subject, load_subject, surroundings
from mixtune.config import near, write_atomic
from mixtune.data import Collator, Encoder, Sample
from mixtune.evaluate.progress import sample_progress

FORMAT, FILE, SELECTIONS = "mixtune-routing/1", "routing.json", "selections.safetensors"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The samples that are looked at, and the number of each one's task, [N]."""

    samples: tuple[Sample, ...]
    tasks_N: np.ndarray


def analyse_routing(request: AnalysisRequest, settings: RoutingSettings, out: Path) -> Path:
    """Record and compare; write routing.json, .png and selections.safetensors into `out`; return the JSON's path.

    Raises ValueError naming the model, adapter, layer, task, file or sample that does not fit, or if nothing is
    routed.
    """
    started = time.monotonic()
    subject = load_subject(request)
    content = {"format": FORMAT, **request.describe(), **surroundings(), **compare_routers(subject, settings, out)}
    content["seconds"] = round(time.monotonic() - started, 2)
    write_atomic(out / FILE, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    write_picture(content, out)
    return out / FILE


def compare_routers(subject: Subject, settings: RoutingSettings, out: Path) -> dict[str, Any]:
    """The measured part of routing.json; writes the selections."""
    drawn = draw(subject, settings)
    trained, redraws = record_all(subject, drawn, settings)
    both = {"trained": trained, "untrained": redraws[0]}
    write_selections(out / SELECTIONS, both, drawn, subject)
    names = [task.name for task in subject.tasks]
    usages = {name: measures.usage_of(each, drawn.tasks_N, names) for name, each in both.items()}
    found = {name: measures.layer_measures(each, usages[name]) for name, each in both.items()}
    kinds = {name: measures.token_kinds(each) for name, each in both.items()}
    places = chosen_places(trained.layers, settings.layers)
    counts = np.bincount(drawn.tasks_N, minlength=len(names)).tolist()
    return {
        "settings": settings.model_dump(),
        "routes": "instances" if trained.image is None else "tokens",
        "samples": len(drawn.samples),
        "tasks": [{**t.describe(), "samples": n} for t, n in zip(subject.tasks, counts, strict=True)],
        "layers": [
            {**_layer(trained, number), **found["trained"][number], "untrained": found["untrained"][number]}
            for number in range(len(trained.layers))
        ],
        "usage": {
            side: measures.nested(shares.transpose(1, 0, 2))
            for side, shares in zip(measures.SIDES, usages["trained"].shares, strict=False)
        },
        "overlap": {
            "tasks": names,
            **measures.overlaps(usages["trained"]),
            "untrained": measures.overlaps(usages["untrained"]),
        },
        "tokens": kinds["trained"] and {**kinds["trained"], "untrained": kinds["untrained"]},
        "summary": {name: measures.means(each) for name, each in found.items()},
        "maps": maps(both, places, settings),
        "points": {"id": [sample.id for sample in drawn.samples], "task": drawn.tasks_N.tolist()},
        "purity": purities([trained, *redraws], drawn, subject, places, settings),
    }


def draw(subject: Subject, settings: RoutingSettings) -> Drawn:
    """At most `per_task` samples of each task, drawn by `seed`."""
    samples: list[Sample] = []
    tasks: list[int] = []
    for number, task in enumerate(subject.tasks):
        order = np.random.default_rng([settings.seed, number]).permutation(len(task.samples))[: settings.per_task]
        samples += [task.samples[place] for place in sorted(order)]
        tasks += [number] * len(order)
    return Drawn(samples=tuple(samples), tasks_N=np.array(tasks))


def record_all(subject: Subject, drawn: Drawn, settings: RoutingSettings) -> tuple[Selections, list[Selections]]:
    """Selections of the routers as they are, and of each redraw of them."""
    collator = Collator(Encoder(subject.processor, settings.max_length), [task.name for task in subject.tasks])
    with sample_progress() as progress:
        bar = progress.add_task("selections", total=(1 + settings.redraws) * len(drawn.samples))

        def record() -> Selections:
            return record_selections(
                subject.model, collator, drawn.samples, settings.batch_size, lambda count: progress.advance(bar, count)
            )

        trained, redraws = record(), []
        for number in range(settings.redraws):
            with untrained_routers(subject.model, settings.seed + number):
                redraws.append(record())
    return trained, redraws


def chosen_places(layers: Sequence[str], chosen: str) -> list[tuple[str, list[int], list[int]]]:
    """(name, depths, positions of its routers) of all layers together and of each chosen one.

    Raises ValueError for a layer that has no router.
    """
    depths = [layer_place(name)[0] for name in layers]
    present = sorted(set(depths))
    found = [("all", present, list(range(len(layers))))]
    for word in (part.strip() for part in chosen.split(",") if part.strip()):
        if word in DEPTHS:
            depth = present[int(DEPTHS[word] * len(present))]
        elif word.isdigit() and int(word) in present:
            depth = int(word)
        else:
            known = [*DEPTHS, *map(str, present)]
            raise ValueError(
                f"layers: {word!r} is none of {', '.join(DEPTHS)} or a layer with a router{near(word, known)}"
            )
        name = word if word in DEPTHS else f"layer {depth}"
        found.append((name, [depth], [number for number, each in enumerate(depths) if each == depth]))
    return found


Place = tuple[str, list[int], list[int]]  # as `chosen_places` gives them


def maps(both: dict[str, Selections], places: Sequence[Place], settings: RoutingSettings) -> list[dict[str, Any]]:
    """For each place the map of the trained router and of the first untrained one."""
    found = []
    for name, depths, layers in places:
        for router, selections in both.items():
            distances = measures.jaccard_distances(measures.described(selections, layers))
            x, y = tsne(distances, settings.perplexity, settings.seed).T
            place = {"name": name, "layers": depths, "router": router}
            found.append({**place, "x": measures.nested(x), "y": measures.nested(y)})
    return found


def purities(
    recorded: Sequence[Selections], drawn: Drawn, subject: Subject, places: Sequence[Place], settings: RoutingSettings
) -> list[dict[str, Any]]:
    """For each place and split how well neighbours tell the task; `recorded` holds the trained router first."""
    splits = np.array([subject.tasks[task].split for task in drawn.tasks_N])
    found = []
    for name, depths, layers in places:
        distances = [measures.jaccard_distances(measures.described(each, layers)) for each in recorded]
        for split in ("all", *(sorted(set(splits)) if len(set(splits)) > 1 else ())):
            among = np.flatnonzero((splits == split) | (split == "all"))
            tasks = drawn.tasks_N[among]
            trained, *redraws = (
                measures.neighbours_agree(each[np.ix_(among, among)], tasks, settings.neighbours) for each in distances
            )
            facts = {"name": name, "layers": depths, "split": str(split), "neighbours": settings.neighbours}
            found.append({**facts, **measures.purity(trained, redraws, tasks, settings.confidence)})
    return found


def _layer(selections: Selections, number: int) -> dict[str, Any]:
    depth, linear = layer_place(selections.layers[number])
    name = selections.layers[number]
    return {"name": name, "depth": depth, "linear": linear, "size": selections.sizes[number]}


def write_selections(path: Path, both: dict[str, Selections], drawn: Drawn, subject: Subject) -> None:
    """`choices_a` and `untrained_choices_a` [N, L, E] and, of factors, the same with `_b` (counts as uint8 or int32,
    sums of gates as float32); `task` [N]; and `axes`, JSON in the metadata.
    """
    tensors = {"task": torch.from_numpy(drawn.tasks_N)}
    for router, prefix in (("trained", ""), ("untrained", "untrained_")):
        for side, values in zip(measures.SIDES, both[router].choices, strict=False):
            tensors[f"{prefix}choices_{side}"] = _compact(torch.from_numpy(np.ascontiguousarray(values)))
    axes = {
        "tasks": [task.name for task in subject.tasks],
        "layers": list(both["trained"].layers),
        "sizes": list(both["trained"].sizes),
        "ids": [sample.id for sample in drawn.samples],
    }
    draft = path.with_name(f".{path.name}.partial")
    save_file(tensors, draft, metadata={"axes": json.dumps(axes, ensure_ascii=False)})
    draft.replace(path)


def _compact(values: torch.Tensor) -> torch.Tensor:
    """The same numbers in fewer bytes."""
    if not torch.equal(values, values.round()):
        return values
    return values.to(torch.uint8 if values.max() < 256 else torch.int32)
