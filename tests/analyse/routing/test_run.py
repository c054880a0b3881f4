"""The whole routing analysis on the tiny model."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from mixtune.analyse.routing import RoutingSettings, compare_routers
from mixtune.analyse.routing.pictures import marks, write_picture
from mixtune.analyse.routing.run import chosen_places
from mixtune.analyse.subject import AnalysisRequest, Subject, read_tasks
from routed import adapted
from tiny import tiny_processor, tiny_samples


def subject(tmp_path, preset: str) -> Subject:
    seen = tiny_samples(tmp_path / "seen", 18)
    unseen = tiny_samples(tmp_path / "unseen", 6, tasks=("other",))
    tasks = read_tasks(AnalysisRequest(model="tiny", data=(str(seen),), unseen=(str(unseen),)))
    return Subject(model=adapted(preset), processor=tiny_processor(), tasks=tasks)


@pytest.mark.parametrize(("preset", "sides", "layers"), [("mixlora", 2, 14), ("llava-mole", 1, 2)])
def test_trained_and_untrained_stand_side_by_side(preset: str, sides: int, layers: int, tmp_path) -> None:
    settings = RoutingSettings(per_task=5, redraws=2, neighbours=3, layers="shallow,1")
    found = compare_routers(subject(tmp_path, preset), settings, tmp_path)
    assert [(task["name"], task["split"], task["samples"]) for task in found["tasks"]] == [
        ("colour", "seen", 5), ("count", "seen", 5), ("yesno", "seen", 5), ("other", "unseen", 5),
    ]  # fmt: skip
    assert found["routes"] == ("instances" if sides == 2 else "tokens")
    assert len(found["layers"]) == layers and len(found["usage"]) == sides
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for layer in found["usage"]["a"] for row in layer)
    assert (found["tokens"] is None) == (sides == 2)
    assert [(each["name"], each["router"]) for each in found["maps"]] == [
        (name, router) for name in ("all", "shallow", "layer 1") for router in ("trained", "untrained")
    ]
    assert all(len(each["x"]) == len(each["y"]) == found["samples"] == 20 for each in found["maps"])
    assert [(row["name"], row["split"], row["samples"]) for row in found["purity"]][:3] == [
        ("all", "all", 20), ("all", "seen", 15), ("all", "unseen", 5),
    ]  # fmt: skip
    with safe_open(tmp_path / "selections.safetensors", framework="np") as file:
        axes, choices = json.loads(file.metadata()["axes"]), file.get_tensor("choices_a")
        assert len(axes["ids"]) == 20 and choices.shape == (20, layers, max(axes["sizes"]))
        assert not np.array_equal(choices, file.get_tensor("untrained_choices_a"))
    content = {"model": "tiny", "adapter": None, "preset": preset, **found}
    json.dumps(content, allow_nan=False)
    assert write_picture(content, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_layers_without_a_router_are_named() -> None:
    layers = [f"model.layers.{depth}.mlp" for depth in range(6)]
    assert chosen_places(layers, "deep")[1] == ("deep", [5], [5])
    with pytest.raises(ValueError, match="layers: '9' is none of shallow, middle, deep or a layer with a router"):
        chosen_places(layers, "9")


def test_tasks_of_a_domain_look_different() -> None:
    tasks = [{"domain": "one", "split": split} for split in ("seen", "unseen") for _ in range(12)]
    assert len(set(marks(tasks))) == 24
