"""A comparison out of YAML: arms as whole recipes, mistakes at the line that they come from."""

import pytest
import yaml

from mixtune.adapters import MixtureConfig
from mixtune.compare import load_comparison
from mixtune.config import ConfigError

TEXT = """\
output_dir: out
base:
  model: {name_or_path: here, dtype: float32}
  data:
    sources: [{path: a.jsonl}]
  adapter: {r: 4, num_factors: 16}
  train:
    learning_rate: 0.001
    max_steps: 10
scale: 2.0
evaluate: {benchmarks: b.jsonl}
arms:
  lora:
    adapter: {preset: lora}
  hot:
    adapter: {preset: lora, scaling: 8.0}
  published:
    adapter: {preset: mixlora-published, scaling: null}
  projector:
    train: {stage: align}
  full:
    train: {stage: full}
"""


@pytest.fixture
def load(tmp_path):
    def from_text(text, *overrides):
        path = tmp_path / "compare.yaml"
        path.write_text(text)
        return load_comparison(path, overrides)

    return from_text


def scale(recipe):
    return MixtureConfig(preset=recipe.adapter.preset, **recipe.adapter.overrides).scale


def test_arms_are_the_base_with_their_changes(load):
    recipes = load(TEXT).recipes
    assert recipes["lora"].adapter.preset == "lora" and recipes["lora"].adapter.r == 4
    assert recipes["lora"].train == recipes["hot"].train
    assert recipes["projector"].adapter is None and recipes["full"].train.stage == "full"


def test_the_scale_is_the_same_unless_an_arm_says_otherwise(load):
    recipes = load(TEXT).recipes
    assert scale(recipes["lora"]) == 2 and scale(recipes["hot"]) == 8
    assert scale(recipes["published"]) == 2 * 16 / 4  # its own alpha = 2E


def test_overrides_change_any_key(load):
    loaded = load(TEXT, "seeds=[5]", "base.train.max_steps=20", "arms.lora.adapter.r=1", "scale=3.0")
    assert loaded.settings.seeds == (5,) and loaded.recipes["lora"].train.max_steps == 20
    assert loaded.recipes["lora"].adapter.r == 1 and loaded.recipes["hot"].adapter.r == 4
    assert scale(loaded.recipes["lora"]) == 3


def test_a_base_may_be_another_file(load, tmp_path):
    base = yaml.safe_load(TEXT)["base"]
    (tmp_path / "base.yaml").write_text(
        yaml.safe_dump({**base, "train": {**base["train"], "output_dir": "x", "seed": 7}})
    )
    start, end = TEXT.index("base:"), TEXT.index("scale:")
    loaded = load(TEXT[:start] + "base:\n  recipe: base.yaml\n  train: {max_steps: 30}\n" + TEXT[end:])
    train = loaded.recipes["lora"].train
    assert (train.max_steps, train.learning_rate, train.seed) == (30, 0.001, 7)


def test_overrides_reach_into_lists_of_the_base_file(load, tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(yaml.safe_load(TEXT)["base"]))
    start, end = TEXT.index("base:"), TEXT.index("scale:")
    text = TEXT[:start] + "base: {recipe: base.yaml, train: {output_dir: x}}\n" + TEXT[end:]
    (source,) = load(text, "base.data.sources.0.tasks=a", "base.data.sources.0.task=b").recipes["lora"].data.sources
    assert (source.path, source.tasks, source.task) == ("a.jsonl", ("a",), "b")
    with pytest.raises(ConfigError, match=r"override 'base.data.sources.3.path=x'.*should be a valid tuple"):
        load(text, "base.data.sources.3.path=x")


def test_a_misspelt_key_on_the_way_of_an_override_is_named(load):
    with pytest.raises(ConfigError) as error:
        load(TEXT, "arms.lora.adaptor.r=8")
    assert (
        str(error.value) == "override 'arms.lora.adaptor.r=8': arms.lora.adaptor: unknown key; did you mean 'adapter'?"
    )


def test_all_mistakes_are_told_at_their_lines(load):
    text = TEXT.replace("learning_rate: 0.001", "learning_rate: -1").replace(
        "preset: lora, scaling", "preset: lora, scalin"
    )
    text = text.replace("evaluate: {benchmarks: b.jsonl}", "evaluate: {benchmarks: b.jsonl, wy: rank}")
    text = text.replace("{preset: mixlora-published,", "{preset: mixlora-publishd,")
    with pytest.raises(ConfigError) as caught:
        load(text + "baseline: lor\n", "seeds=no")
    told = [line.partition("compare.yaml:")[2] for line in caught.value.mistakes]
    for line, words in (
        (8, "base.train.learning_rate: -1 is wrong"),
        (11, "evaluate.wy: unknown key; did you mean 'way'?"),
        (16, "arms.hot.adapter.scalin: unknown key; did you mean 'scaling'?"),
        (18, "arms.published.adapter: preset: 'mixlora-publishd' is unknown; did you mean 'mixlora-published'?"),
    ):
        assert any(each.startswith(f"{line}: {words}") for each in told), (line, told)
    assert any("override 'seeds=no'" in line for line in caught.value.mistakes)
    assert len(caught.value.mistakes) == 5  # the base's mistake once, though every arm has it


def test_mistakes_of_the_base_file_are_told_in_that_file(load, tmp_path):
    (tmp_path / "base.yaml").write_text("model: {name_or_path: here}\ntrain:\n  learning_rat: 1\n")
    start, end = TEXT.index("base:"), TEXT.index("scale:")
    with pytest.raises(ConfigError) as caught:
        load(TEXT[:start] + "base: {recipe: base.yaml}\n" + TEXT[end:])
    assert any("base.yaml:3: base.train.learning_rat: unknown key; did you mean 'learning_rate'?" in line
               for line in caught.value.mistakes)  # fmt: skip
    assert any("compare.yaml:2: base.data: missing" in line for line in caught.value.mistakes), caught.value.mistakes


def test_an_unknown_baseline_and_protocol_are_named(load):
    with pytest.raises(ConfigError) as caught:
        load(TEXT + "baseline: lor\nprotocol: conditional-mixlor\n")
    assert "compare.yaml:23: baseline: 'lor' is no arm; did you mean 'lora'?" in caught.value.mistakes[0]
    assert "did you mean 'conditional-mixlora'?" in caught.value.mistakes[1]


def test_full_fine_tuning_needs_float32(load):
    with pytest.raises(ConfigError, match=r"arms\.full: model\.dtype: train\.stage 'full'"):
        load(TEXT.replace("dtype: float32", "dtype: bfloat16"))


def test_an_untuned_arm_needs_no_adapter(load):
    text = TEXT.replace("  adapter: {r: 4, num_factors: 16}\n", "") + "  untuned: {kind: untuned}\n"
    assert load(text).recipes["untuned"].adapter is None
