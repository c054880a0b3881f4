"""Numbers in words, keys of recipes, and names that point nowhere."""

import pytest

from mixtune.compare.settings import Comparison, cross_checks, dotted, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [("5M", 5_000_000), ("300k", 300_000), ("1.2B", 1_200_000_000), ("7", 7), (9, 9), ("lora", "lora")],
)
def test_a_number_of_parameters_is_read_in_words(text, count):
    assert parse_count(text) == count


def test_a_bare_key_gets_its_section():
    assert dotted("learning_rate") == "train.learning_rate" and dotted("scaling") == "adapter.scaling"
    assert dotted("adapter.r") == "adapter.r"
    for unknown in ("scalin", "adapter.scalin", "nowhere.scaling"):
        with pytest.raises(ValueError, match="no single key of a recipe"):
            dotted(unknown)


def settings(**changes):
    given = {
        "output_dir": "out",
        "base": {},
        "arms": {"lora": {}, "other": {}},
        "evaluate": {"benchmarks": "a.jsonl", "validation": "v.jsonl"},
    }
    return Comparison.model_validate({**given, **changes})


CROSSED = {
    "baseline": ({"baseline": "lor"}, ("baseline",), "did you mean 'lora'"),
    "no validation": (
        {"search": {"grid": {"scaling": [1, 2]}}, "evaluate": {"benchmarks": "a"}}, ("search",), "evaluate.validation"
    ),
    "validation is the test": (
        {"search": {"grid": {"scaling": [1, 2]}}, "evaluate": {"benchmarks": "a", "validation": "a"}},
        ("evaluate", "validation"), "may not see",
    ),
    "grid key": ({"search": {"grid": {"scalin": [1, 2]}}}, ("search", "grid", "scalin"), "did you mean 'scaling'"),
    "search_as": (
        {"arms": {"lora": {"search_as": "other"}, "other": {"search_as": "lora"}}}, ("arms", "lora", "search_as"),
        "no arm that is searched",
    ),
    "budget of nobody": (
        {"arms": {"lora": {"budget": "othe"}, "other": {}}}, ("arms", "lora", "budget"), "did you mean 'other'"
    ),
    "budget of itself": ({"arms": {"lora": {"budget": "lora"}}}, ("arms", "lora", "budget"), "nor an arm"),
    "share": ({"arms": {"lora": {"specialist_steps": "share"}}}, ("arms", "lora", "specialist_steps"), "specialists"),
}  # fmt: skip


@pytest.mark.parametrize("case", CROSSED)
def test_a_name_that_points_nowhere_is_found_at_its_place(case):
    change, path, words = CROSSED[case]
    found = dict(cross_checks(settings(**change)))
    assert path in found and words in found[path]


def test_sound_settings_have_no_crossed_names():
    arms = {"lora": {"budget": "5M"}, "other": {"budget": "free"}, "matched": {"budget": "other", "search_as": "lora"}}
    assert not cross_checks(settings(arms=arms, search={"grid": {"learning_rate": [1e-3]}}))


@pytest.mark.parametrize("change", [{"seeds": [1, 1]}, {"seeds": []}, {"arms": {"a/b": {}}}, {"arms": {"search": {}}}])
def test_settings_that_cannot_be_run_are_refused(change):
    with pytest.raises(ValueError):
        settings(**change)
