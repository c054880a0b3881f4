"""Recipes: every mistake is reported at once, each with its line, key, value and near names."""

import dataclasses
import math

import pytest
from pydantic import ValidationError

from mixtune.config import (
    AdapterSettings,
    ConfigError,
    DataSettings,
    Recipe,
    dump_recipe,
    expand_path,
    load_recipe,
    mixtune_home,
    movable_path,
    near,
    portable,
)

GOOD = """\
model:
  name_or_path: pocket
data:
  sources:
    - path: train.jsonl
      format: messages
adapter:
  preset: mixlora
  r: 4
  target_modules: [q_proj, v_proj]
train:
  output_dir: runs/x
  learning_rate: 1e-4
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write recipe.yaml into the current folder, so that messages hold its bare name."""
    monkeypatch.chdir(tmp_path)

    def write_text(text: str) -> str:
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        return "recipe.yaml"

    return write_text


def mistakes_of(file: str, overrides=()) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_recipe(file, overrides)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return caught.value.mistakes


def test_good_recipe_is_read_with_its_defaults(write):
    recipe = load_recipe(write(GOOD))
    assert recipe.train.learning_rate == 1e-4
    assert recipe.train.per_device_train_batch_size == 16
    assert recipe.data.sources[0].format == "messages"
    assert recipe.adapter.overrides == {"r": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize("written, value", [
    ("1e-4", 1e-4), ("1E4", 1e4), ("+.5e1", 5.0), ("3", 3.0), ("2.", 2.0), ("-1e-3", -1e-3), ("012", 12.0),
])  # fmt: skip
def test_numbers_follow_yaml_1_2(write, written, value):
    text = GOOD.replace("1e-4", f"1e-4\n  weight_decay: {written}")
    if value < 0:
        assert mistakes_of(write(text)) == (
            "recipe.yaml:14: train.weight_decay: -0.001 is wrong: input should be greater than or equal to 0",
        )
    else:
        assert load_recipe(write(text)).train.weight_decay == value


def test_words_that_old_yaml_takes_for_booleans_and_times_stay_words(write):
    text = GOOD.replace("path: train.jsonl", "path: on\n      task: 1:30").replace("runs/x", "2020-01-01")
    recipe = load_recipe(write(text))
    assert (recipe.data.sources[0].path, recipe.data.sources[0].task) == ("on", "1:30")
    assert recipe.train.output_dir == "2020-01-01"


def test_all_mistakes_of_a_file_come_at_once_in_order_of_line(write):
    text = """\
modle:
  name_or_path: pocket
data:
  sources:
    - path: a.jsonl
      formt: llava
    - format: messagez
  sampling: equal
  sampling: temperature
adapter:
  preset: mixlora
  r: 0
  target_modules: {a: 1}
train:
  output_dir: out
  learning_rat: 1e-4
  warmup_ratio: nope
  stage: tuned
"""
    assert mistakes_of(write(text)) == (
        "recipe.yaml:1: model: missing; it has no default",
        "recipe.yaml:1: modle: unknown key; did you mean 'model'?",
        "recipe.yaml:6: data.sources.0.formt: unknown key; did you mean 'format'?",
        "recipe.yaml:7: data.sources.1.path: missing; it has no default",
        "recipe.yaml:7: data.sources.1.format: 'messagez' is not one of its values; did you mean 'messages'?",
        "recipe.yaml:9: data.sampling: duplicate key; first given on line 8",
        "recipe.yaml:12: adapter.r: 0 is wrong: input should be greater than or equal to 1",
        "recipe.yaml:13: adapter.target_modules: {'a': 1} is wrong: input should be a valid string"
        " or input should be a valid tuple",
        "recipe.yaml:14: train.learning_rate: missing; it has no default",
        "recipe.yaml:16: train.learning_rat: unknown key; did you mean 'learning_rate'?",
        "recipe.yaml:17: train.warmup_ratio: 'nope' is wrong: input should be a valid number,"
        " unable to parse string as a number",
        "recipe.yaml:18: train.stage: 'tuned' is not one of its values; did you mean 'tune'?",
    )


def test_adapter_fields_are_those_of_the_method_with_near_names(write):
    found = mistakes_of(write(GOOD.replace("  r: 4", "  num_factor: 8\n  zzz: 1")))
    assert found[0] == "recipe.yaml:9: adapter.num_factor: unknown key; did you mean 'num_factors'?"
    assert found[1].startswith("recipe.yaml:10: adapter.zzz: unknown key; choose from preset, r, lora_alpha")


@pytest.mark.parametrize("text, message", [
    ("", "recipe.yaml:1: a recipe has the sections model, data, adapter, train; this file has none"),
    ("- 1\n", "recipe.yaml:1: a recipe has the sections model, data, adapter, train; this file has none"),
    ("model:\n  a: [1\ntrain: 2\n", "recipe.yaml:3: not valid YAML: expected ',' or ']', but got ':'"),
    ("model: !!python/object:os.system 1\n", "recipe.yaml:1: not valid YAML: could not determine a constructor"),
])  # fmt: skip
def test_files_that_hold_no_recipe(write, text, message):
    found = mistakes_of(write(text))
    assert len(found) == 1
    assert found[0].startswith(message[:60])


def test_missing_file_and_binary_file(write, tmp_path):
    assert mistakes_of("nowhere.yaml")[0].startswith("nowhere.yaml: cannot be read:")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert mistakes_of("binary.yaml")[0].startswith("binary.yaml: cannot be read:")


def test_section_that_is_no_mapping(write):
    found = mistakes_of(write(GOOD.replace("model:\n  name_or_path: pocket", "model: pocket")))
    keys = "name_or_path, dtype, attn_implementation, revision"
    assert found == (f"recipe.yaml:1: model: 'pocket' should be keys and values: {keys}",)


def test_empty_sources(write):
    text = GOOD.replace("  sources:\n    - path: train.jsonl\n      format: messages", "  sources: []")
    assert mistakes_of(write(text)) == ("recipe.yaml:4: data.sources: is empty; name at least one",)


@pytest.mark.parametrize("extra, message", [
    ("  sampling: weights", "weights: sampling 'weights' needs a weight above 0 for at least one task"),
    ("  weights: {a: 1}", "weights: given, but sampling is 'proportional'; set sampling to 'weights'"),
])  # fmt: skip
def test_weights_and_sampling_belong_together(write, extra, message):
    assert mistakes_of(write(GOOD.replace("adapter:", f"{extra}\nadapter:"))) == (f"recipe.yaml:3: data: {message}",)


def test_stage_and_adapter_belong_together(write):
    without = GOOD.replace("adapter:\n  preset: mixlora\n  r: 4\n  target_modules: [q_proj, v_proj]\n", "")
    assert mistakes_of(write(without))[0].startswith("recipe.yaml:1: adapter: missing; train.stage 'tune'")
    assert load_recipe("recipe.yaml", ["train.stage=align"]).adapter is None
    assert "trains the projector alone" in mistakes_of(write(GOOD), ["stage=align"])[0]


def test_overrides_by_dotted_and_by_bare_name(write):
    recipe = load_recipe(write(GOOD), [
        "learning_rate=2e-3", "train.seed=7", "r=8", "data.sources.0.path=b.jsonl", "report_to=[wandb]",
        "adapter.target_modules=all-linear", "data.weights={a: 1e0, b: 3}", "sampling=weights",
    ])  # fmt: skip
    assert (recipe.train.learning_rate, recipe.train.seed, recipe.adapter.r) == (2e-3, 7, 8)
    assert recipe.data.sources[0].path == "b.jsonl"
    assert recipe.train.report_to == ("wandb",)
    assert recipe.adapter.target_modules == "all-linear"
    assert recipe.data.weights == {"a": 1.0, "b": 3.0}


def test_mistakes_of_overrides_name_the_override_and_come_with_those_of_the_file(write):
    found = mistakes_of(write(GOOD.replace("r: 4", "r: four")), [
        "lerning_rate=1e-3", "train.seed=x", "path", "data.sources.7.path=a", "model.name_or_path.x=3",
        "train.sed=2", "r=[1", "adapter.lora_alpha=0",
    ])  # fmt: skip
    assert found == (
        "recipe.yaml:9: adapter.r: 'four' is wrong: input should be a valid integer,"
        " unable to parse string as an integer",
        "override 'lerning_rate=1e-3': lerning_rate: unknown key; did you mean 'learning_rate'?",
        "override 'train.seed=x': train.seed: 'x' is wrong: input should be a valid integer,"
        " unable to parse string as an integer",
        "override 'path': is not of the form key=value",
        "override 'data.sources.7.path=a': data.sources: has 1 entries, from 0 on; there is no '7'",
        "override 'model.name_or_path.x=3': model.name_or_path: is a single value; it has no key 'x'",
        "override 'train.sed=2': train.sed: unknown key; did you mean 'seed'?",
        "override 'r=[1': not valid YAML: expected ',' or ']', but got '<stream end>'",
        "override 'adapter.lora_alpha=0': adapter.lora_alpha: 0 is wrong: input should be greater than 0",
    )


def test_an_override_replaces_a_wrong_value(write):
    assert load_recipe(write(GOOD.replace("r: 4", "r: four")), ["r=2"]).adapter.r == 2


def test_dump_reads_back_to_an_equal_recipe(write):
    recipe = load_recipe(write(GOOD), ["learning_rate=1e-5", "data.sources.0.task='1e-4'", "output_dir=no"])
    again = load_recipe(write(dump_recipe(recipe)))
    assert again == recipe
    assert again.data.sources[0].task == "1e-4"
    assert again.train.output_dir == "no"


def test_settings_are_frozen_keyword_only_and_finite(write):
    recipe = load_recipe(write(GOOD))
    with pytest.raises(ValidationError):
        recipe.train.seed = 3
    with pytest.raises(TypeError):
        Recipe(recipe.model)
    assert "train.learning_rate" in mistakes_of("recipe.yaml", ["learning_rate=.nan"])[0]
    assert "train.learning_rate" in mistakes_of("recipe.yaml", ["learning_rate=.inf"])[0]
    assert math.isclose(DataSettings(sources=({"path": "x"},)).temperature, 2.0)


def test_near_prefers_a_close_name_and_else_lists_the_choices():
    assert near("q_prj", ["q_proj", "v_proj"]) == "; did you mean 'q_proj'?"
    assert near("MIXLORA", ["lora", "mixlora"]) == "; did you mean 'mixlora'?"
    assert near("zzz", ["a", "b"]) == "; choose from a, b"
    assert near("zzz", [f"n{i}" for i in range(25)]).endswith("n19 and 5 more")
    assert near("zzz", []) == ""


def test_home_and_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path))
    assert mixtune_home() == tmp_path
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.delenv("MIXTUNE_HOME")
    assert str(mixtune_home()) == "/somewhere/.cache/mixtune"
    assert expand_path("$MIXTUNE_HOME/a") == expand_path("${MIXTUNE_HOME}/a") == "/somewhere/.cache/mixtune/a"
    assert expand_path("~/b") == "/somewhere/b"


def test_adapter_settings_have_every_field_of_the_method_that_a_user_sets():
    from peft import PeftConfig

    from mixtune.adapters.settings import MixtureConfig

    kept_by_the_method = {field.name for field in dataclasses.fields(PeftConfig)} | {"base_shapes"}
    own = {field.name for field in dataclasses.fields(MixtureConfig)} - kept_by_the_method
    assert set(AdapterSettings.model_fields) == own


@pytest.mark.parametrize("written, value", [
    ("10GB", 10**10), ("1.5 TiB", 3 * 2**39), ("512 mb", 512 * 10**6), ("2000", 2000), ("'77'", 77),
])  # fmt: skip
def test_sizes_are_read_in_words(write, written, value):
    recipe = load_recipe(write(GOOD.replace("adapter:", f"  feature_cache_limit: {written}\nadapter:")))
    assert recipe.data.feature_cache_limit == value
    assert load_recipe(write(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize("written, words", [
    ("10 gigs", "'10 gigs' is no size; write a number of bytes, or one with kB, MB, GB or TB"),
    ("-1GB", "'-1GB' is no size"),
    ("0", "0 is wrong: input should be greater than or equal to 1"),
])  # fmt: skip
def test_what_is_no_size_is_refused(write, written, words):
    (mistake,) = mistakes_of(write(GOOD.replace("adapter:", f"  feature_cache_limit: {written}\nadapter:")))
    assert mistake.startswith("recipe.yaml:7: data.feature_cache_limit: ") and words in mistake


@pytest.mark.parametrize("written, value", [
    ("true", True), ("false", False), ("on", True), ("off", False), ("features", "features"), ("./off", "./off"),
])  # fmt: skip
def test_a_switch_is_never_a_folder(write, written, value):
    recipe = load_recipe(write(GOOD.replace("adapter:", f"  feature_cache: {written}\nadapter:")))
    assert recipe.data.feature_cache is value or recipe.data.feature_cache == value == written


def test_a_feature_cache_encodes_one_picture_at_a_time(write):
    text = GOOD.replace("adapter:", "  feature_cache: features\nadapter:")
    assert load_recipe(write(text)).data.feature_cache == "features"
    assert load_recipe(write(text), ["vision_batch_size=1"]).train.vision_batch_size == 1
    (mistake,) = mistakes_of(write(text), ["vision_batch_size=8"])
    assert "train.vision_batch_size: 8, but data.feature_cache encodes one picture at a time" in mistake


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{cwd}/runs/compare", "runs/compare"),
        ("mixtune compare {cwd}/a.yaml --out {cwd}", "mixtune compare a.yaml --out ."),
        ("{recipe}/data/train.jsonl", "data/train.jsonl"),
        ("{home}/pocket/model", "$MIXTUNE_HOME/pocket/model"),
        ("error: {user}/mine: missing", "error: ~/mine: missing"),
        ("{user}", "~"),
        ("{user}x/y/z, {user}.", "…/z, ~."),
        ("'/mnt/alice/llava-1.5/' or \"/opt/x/y.json\"", "'…/llava-1.5' or \"…/y.json\""),
        ("path=/data/mme/images/1.png,", "path=…/1.png,"),
        ("https://example.org/a/b and/or 1/2 pocket/natural/train ../x/y ~/a $A/b/c", None),
        ("…/kept/as/it.is", None),
        ("</script> /one", None),
    ],
)
def test_a_text_that_leaves_the_machine_names_no_place_on_it(text, told, tmp_path, monkeypatch):
    places = {name: tmp_path / name for name in ("cwd", "recipe", "home", "user")}
    for folder in places.values():
        folder.mkdir()
    monkeypatch.chdir(places["cwd"])
    monkeypatch.setenv("MIXTUNE_HOME", str(places["home"]))
    monkeypatch.setenv("HOME", str(places["user"]))
    text = text.format(**places)
    told = text if told is None else told
    assert portable(text, places["recipe"]) == told
    assert portable([{"a": (text, 1.5, None)}], places["recipe"]) == [{"a": (told, 1.5, None)}]


def test_a_path_in_mixtunes_folder_moves_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / "a"))
    kept = movable_path(str(tmp_path / "a" / "x.png"))
    assert kept == "$MIXTUNE_HOME/x.png" and movable_path(str(tmp_path / "ab" / "x.png")) == str(tmp_path / "ab/x.png")
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / "b"))
    assert expand_path(kept) == str(tmp_path / "b" / "x.png")


def test_the_inner_of_two_folders_names_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / "cache"))
    assert portable(f"{tmp_path}/cache/pocket {tmp_path}/cached") == "$MIXTUNE_HOME/pocket cached"
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert portable(f"{tmp_path}/real/x {tmp_path}/link/x", tmp_path / "link") == "x x"
