"""The grid of an arm, the best point, and who takes it over."""

import pytest

from mixtune.compare.arms import Arm, with_keys
from mixtune.compare.search import Tried, choose, points, searched, winners
from mixtune.compare.settings import ArmSettings, Comparison, SearchSettings
from mixtune.config import Recipe

GRID = SearchSettings.model_validate({"grid": {"learning_rate": [1e-3, 2e-3], "scaling": [1, 2]}})


def arm(adapted=True, **settings):
    given = {"model": {"name_or_path": "m", "dtype": "float32"}, "data": {"sources": [{"path": "d"}]}}
    given["train"] = {"output_dir": "o", "learning_rate": 1.0, "stage": "tune" if adapted else "full"}
    recipe = Recipe.model_validate({**given, "adapter": {} if adapted else None})
    return Arm(name="a", settings=ArmSettings.model_validate(settings), recipe=recipe, parameters=None)


@pytest.mark.parametrize(
    ("given", "keys", "count"),
    [
        (arm(), {"train.learning_rate", "adapter.scaling"}, 4),
        (arm(adapted=False), {"train.learning_rate"}, 2),
        (arm(adapter={"scaling": 8.0}), {"train.learning_rate"}, 2),
        (arm(adapter={"lora_alpha": 8.0}), {"train.learning_rate"}, 2),
        (arm(adapter={"scaling": None}), {"train.learning_rate"}, 2),
        (arm(adapter={"scaling": 8.0}, train={"learning_rate": 1.0}), set(), 1),
    ],
)
def test_the_grid_leaves_out_what_an_arm_sets_or_has_not(given, keys, count):
    found = points(GRID, given)
    assert len(found) == count and all(set(point) == keys for point in found)


def tried(*accuracies):
    return [Tried(arm="a", point={"k": number}, accuracy=value) for number, value in enumerate(accuracies)]


def test_the_best_point_is_chosen_and_an_end_of_the_grid_is_told():
    found = choose(tried(0.1, 0.5, 0.5))
    assert [row.chosen for row in found] == [False, True, False] and found[1].at_edge == ()
    assert choose(tried(0.6, 0.5, 0.2))[0].at_edge == ("k",)
    assert choose(tried(0.6))[0].at_edge == ()
    assert [row.chosen for row in choose(tried(None, 0.2, None))] == [False, True, False]
    assert not any(row.chosen for row in choose(tried(None, None)))


def test_an_arm_may_take_over_what_another_found():
    arms = {"a": {}, "b": {"search_as": "a"}, "c": {"kind": "untuned"}, "d": {"search_as": "e"}, "e": {}}
    settings = Comparison.model_validate(
        {"output_dir": "o", "base": {}, "arms": arms, "evaluate": {"benchmarks": "x"}, "baseline": "a"}
    )
    assert searched(settings) == ["a", "e"]
    assert winners(settings, {"b": arm()}, choose(tried(0.1, 0.2))) == {"a": {"k": 1}, "b": {"k": 1}}


def test_what_an_arm_sets_itself_or_has_no_place_for_is_not_taken_over():
    shared = {"hot": {"adapter": {"scaling": 8.0}, "search_as": "a"}, "full": {"search_as": "a"}}
    settings = Comparison.model_validate(
        {"output_dir": "o", "base": {}, "arms": {"a": {}, **shared}, "evaluate": {"benchmarks": "x"}, "baseline": "a"}
    )
    point = {"train.learning_rate": 1e-3, "adapter.scaling": 2.0}
    built = {"hot": arm(**shared["hot"]), "full": arm(adapted=False, **shared["full"])}
    found = winners(settings, built, [Tried(arm="a", point=point, accuracy=1.0, chosen=True)])
    assert found == {"a": point, "hot": {"train.learning_rate": 1e-3}, "full": {"train.learning_rate": 1e-3}}
    assert with_keys(built["full"].recipe, found["full"]).train.learning_rate == 1e-3
