"""A run with stored features is the run without them, bit for bit; what cannot be stored is refused."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import processors
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers.models.clip.modeling_clip import CLIPVisionModel

import tiny
from mixtune.config import Recipe
from mixtune.data import Encoder, read_samples
from mixtune.train import train
from mixtune.training import features as tested
from mixtune.training.features import FeatureError, feature_facts, plan_features, size_text, weights_digest
from mixtune.training.logfile import WALL_CLOCK, read_log
from mixtune.training.trainer import MixtureTrainer
from runs import tiny_recipe

ROWS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Samples whose pictures all differ; nobody may change them."""
    path = tiny.tiny_samples(tmp_path_factory.mktemp("data"), ROWS)
    random = np.random.default_rng(0)
    for picture in (path.parent / "images").iterdir():
        Image.fromarray(random.integers(0, 256, (30, 34, 3), dtype=np.uint8)).save(picture)
    return path


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """The result of the run without stored features that most tests repeat with them."""
    return run(data, tmp_path_factory.mktemp("plain") / "run")


def having(recipe: Recipe, **data) -> Recipe:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})


def result(folder: Path) -> tuple[list, dict]:
    """A run's log without its clock, and its tensors."""
    log = [{k: v for k, v in line.items() if k not in WALL_CLOCK} for line in read_log(folder / "train_log.jsonl")]
    return log, {f"{p.name}:{n}": t for p in sorted(folder.glob("*.safetensors")) for n, t in load_file(p).items()}


def same(left: tuple, right: tuple) -> bool:
    return (
        left[0] == right[0]
        and left[1].keys() == right[1].keys()
        and all(torch.equal(value, right[1][name]) for name, value in left[1].items())
    )


def run(data, folder, **options):
    """The result of a run whose features, if `cache` is given, lie there."""
    cache = options.pop("cache", False)
    more = options.pop("settings", {})
    recipe = having(tiny_recipe(data, folder, **options), feature_cache=str(cache) if cache else False, **more)
    train(Recipe.model_validate(recipe.model_dump()))
    return result(Path(folder))


@pytest.fixture
def seen(monkeypatch):
    """Numbers of pictures in each call of a tower while steps are trained."""
    counts, training = [], [False]
    encode, steps = CLIPVisionModel.forward, MixtureTrainer.train

    def counted(self, pixel_values, *args, **kwargs):
        counts.extend([len(pixel_values)] * training[0])
        return encode(self, pixel_values, *args, **kwargs)

    def trained(self, *args, **kwargs):
        training[0] = True
        try:
            return steps(self, *args, **kwargs)
        finally:
            training[0] = False

    monkeypatch.setattr(CLIPVisionModel, "forward", counted)
    monkeypatch.setattr(MixtureTrainer, "train", trained)
    return counts


VARIANTS = {
    "float32": {"adapter": {"preset": "mixlora", "lora_dropout": 0.2}},
    "bfloat16, recomputed, packed": {
        "adapter": "llava-mole", "dtype": "bfloat16", "gradient_checkpointing": True, "settings": {"packing": True}
    },
    "projector, workers": {"adapter": None, "warm_start_steps": 3, "settings": {"dataloader_num_workers": 1}},
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_curve_is_that_without_and_the_tower_rests(data, tmp_path, seen, capsys, variant):
    options = VARIANTS[variant]
    plain = run(data, tmp_path / "plain", **options)
    assert sum(seen) == 2 * ROWS
    seen.clear()
    first = run(data, tmp_path / "first", cache=tmp_path / "cache", **options)
    again = run(data, tmp_path / "again", cache=tmp_path / "cache", **options)
    assert not seen
    assert same(plain, first) and same(plain, again)
    told = capsys.readouterr().out
    assert f"{ROWS} pictures, 0 of them kept from before, {ROWS} encoded now" in told
    assert f"{ROWS} pictures, {ROWS} of them kept from before, 0 encoded now" in told
    assert told.count("the same bits as 2 pictures at once") == 2


def test_where_a_tower_mixes_batches_the_curve_is_that_of_one_picture_at_a_time(data, tmp_path, monkeypatch, capsys):
    encode = CLIPVisionModel.forward

    def mixing(self, pixel_values, *args, **kwargs):
        return encode(self, pixel_values + 0.01 * len(pixel_values), *args, **kwargs)

    monkeypatch.setattr(CLIPVisionModel, "forward", mixing)
    cached = run(data, tmp_path / "cached", cache=tmp_path / "cache")
    assert "their last bits are not those of 2 pictures at once" in capsys.readouterr().out
    assert same(cached, run(data, tmp_path / "one", vision_batch_size=1))
    assert not same(cached, run(data, tmp_path / "two"))


def test_damaged_features_are_made_again(data, plain, tmp_path, capsys):
    run(data, tmp_path / "first", cache=tmp_path / "cache")
    shard = next((tmp_path / "cache").glob("*/*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 64
    shard.write_bytes(content)
    capsys.readouterr()
    assert same(plain, run(data, tmp_path / "again", cache=tmp_path / "cache"))
    assert f"{ROWS} encoded now" in capsys.readouterr().out


def test_features_that_vanish_during_a_run_are_computed_as_they_were(data, plain, tmp_path, monkeypatch, seen):
    monkeypatch.setattr(tested.FeatureStore, "get", _forgetful(tested.FeatureStore.get))
    assert same(plain, run(data, tmp_path / "again", cache=tmp_path / "cache"))
    assert 0 < len(seen) < 2 * ROWS and set(seen) == {1}


def _forgetful(get):
    """`get`, from the ninth call on without the pictures whose names begin with an even digit."""
    calls = []

    def forgotten(self, name):
        calls.append(name)
        return None if len(calls) > 8 and int(name[0], 16) % 2 == 0 else get(self, name)

    return forgotten


def test_an_interrupted_run_goes_on_to_the_same_bits(data, plain, tmp_path, monkeypatch):
    compute = MixtureTrainer.compute_loss

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return compute(self, *args, **kwargs)

    monkeypatch.setattr(MixtureTrainer, "compute_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run", cache=tmp_path / "cache")
    monkeypatch.setattr(MixtureTrainer, "compute_loss", compute)
    assert (tmp_path / "run" / "checkpoint-3").exists()
    assert same(plain, run(data, tmp_path / "run", cache=tmp_path / "cache"))


def test_an_error_while_filling_is_taken_up_where_it_happened(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mixtune.data.features.store.SHARD_TENSORS", 2)
    encode, calls = tested._encode_one, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(tested, "_encode_one", failing)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run", cache=tmp_path / "cache")
    run(data, tmp_path / "run", cache=tmp_path / "cache")
    assert f"{ROWS} pictures, 4 of them kept from before, {ROWS - 4} encoded now" in capsys.readouterr().out


def test_progress_is_shown_of_all_that_takes_long(data, tmp_path, monkeypatch):
    shown = []

    def progress(items, what, total):
        shown.append((what, total))
        return iter(items)

    monkeypatch.setattr(tested, "progress", progress)
    run(data, tmp_path / "run", cache=tmp_path / "cache", max_steps=1)
    assert shown == [("reading pictures", ROWS), ("checking features", ROWS), ("encoding pictures", ROWS)]


def test_features_lie_at_home_by_default_and_samples_without_pictures_need_none(data, tmp_path, monkeypatch):
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / "home"))
    train(having(tiny_recipe(data, tmp_path / "run", max_steps=1), feature_cache=True))
    assert len(list((tmp_path / "home" / "features").glob("*/*.safetensors"))) == 1
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for row in rows:
        row["images"] = []
        row["messages"][0]["content"] = row["messages"][0]["content"].replace("<image>", "")
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(text, tmp_path / "text", cache=tmp_path / "none", max_steps=1)
    assert not (tmp_path / "none").exists()


def test_another_tower_processor_or_layer_is_another_space(tiny_llava):
    model, processor = tiny_llava()
    example = torch.zeros(1, 4, 32)
    spaces = [feature_facts(model, processor, example)]
    assert feature_facts(*tiny_llava(), example) == spaces[0]
    spaces.append(feature_facts(tiny_llava(seed=1)[0], processor, example))
    one_weight = tiny_llava()[0]
    with torch.no_grad():
        next(one_weight.model.vision_tower.parameters()).view(-1)[0] += 1e-3
    spaces.append(feature_facts(one_weight, processor, example))
    for change in ({"do_normalize": False}, {"image_mean": [0.5, 0.5, 0.5]}, {"resample": 0}):
        other = tiny_llava()[1]
        for name, value in change.items():
            setattr(other.image_processor, name, value)
        spaces.append(feature_facts(model, other, example))
    elsewhere = tiny_llava()[0]
    elsewhere.config.vision_feature_layer = -1
    spaces += [feature_facts(elsewhere, processor, example), feature_facts(model, processor, example.bfloat16())]
    assert len({json.dumps(facts, sort_keys=True, default=str) for facts in spaces}) == len(spaces)


def test_weights_are_told_apart_in_every_bit_also_in_buffers(tiny_llava):
    tower = tiny_llava()[0].model.vision_tower
    before = weights_digest(tower)
    assert weights_digest(tiny_llava()[0].model.vision_tower) == before
    tower.register_buffer("mean", torch.zeros(3))
    assert weights_digest(tower) != before


class Flipping:
    """An image processor that flips one picture in two, with numbers from `draw`."""

    def __init__(self, plain, draw):
        self.plain, self.draw = plain, draw

    def __getattr__(self, name):
        return getattr(self.plain, name)

    def __call__(self, images, **options):
        made = self.plain(images, **options)
        if self.draw() < 0.5:
            made["pixel_values"] = torch.as_tensor(np.asarray(made["pixel_values"])).flip(-1)
        return made


@pytest.mark.parametrize("draw", [lambda: float(torch.rand(())), np.random.rand, np.random.default_rng(0).random])
def test_a_random_processor_is_refused(data, tiny_llava, tmp_path, draw):
    model, processor = tiny_llava()
    processor.image_processor = Flipping(processor.image_processor, draw)
    with pytest.raises(FeatureError, match=r"data\.feature_cache: .* is random"):
        plan(data, model, processor, tmp_path)


def plan(data, model, processor, folder, **options):
    recipe = having(tiny_recipe(data, folder / "run"), feature_cache=str(folder / "cache"), **options)
    samples = read_samples(recipe.data)[0]
    return plan_features(recipe, model.requires_grad_(False), Encoder(processor), samples)


def test_a_plan_writes_nothing_and_knows_its_size(data, tiny_llava, tmp_path):
    planned = plan(data, *tiny_llava(), tmp_path)
    assert len(planned.pictures) == ROWS and planned.bytes == 4 * 5 * 32 + tested.HEADER_BYTES
    assert not (tmp_path / "cache").exists()


def test_a_processor_that_cuts_wide_pictures_into_squares_is_refused(data, tiny_llava, tmp_path):
    model, processor = tiny_llava()
    plain = processor.image_processor

    class Cutting(Flipping):
        def __call__(self, images, **options):
            made = self.plain(images, **options)
            picture = images[0] if isinstance(images, list) else images
            if picture.width > 2 * picture.height:
                made["pixel_values"] = torch.cat([torch.as_tensor(np.asarray(made["pixel_values"]))] * 2)
            return made

    processor.image_processor = Cutting(plain, None)
    with pytest.raises(FeatureError, match=r"makes pixels \(1, 3, 28, 28\) and \(2, 3, 28, 28\) of pictures of other"):
        plan(data, model, processor, tmp_path)


def test_pictures_in_squares_are_refused_by_both_settings(data, tiny_llava, tmp_path):
    model = tiny_llava()[0]
    processor = processors.llava_next_processor()
    with pytest.raises(FeatureError, match=r"^data\.feature_cache: .*image_sizes.* for one picture"):
        plan(data, model, processor, tmp_path)
    recipe = tiny_recipe(data, tmp_path, vision_batch_size=1)
    with pytest.raises(FeatureError, match=r"^train\.vision_batch_size: "):
        plan_features(recipe, model, Encoder(processor), read_samples(recipe.data)[0])


def test_what_does_not_fit_is_refused_with_its_size(data, tiny_llava, tmp_path, monkeypatch):
    with pytest.raises(FeatureError, match=r"data\.feature_cache_limit: 5 kB, but features of 8 pictures take 8.32 kB"):
        plan(data, *tiny_llava(), tmp_path, feature_cache_limit=5000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1000))
    with pytest.raises(FeatureError, match=r"data\.feature_cache: .* 8.32 kB, but .* has 1 kB free"):
        plan(data, *tiny_llava(), tmp_path)


REFUSED = {
    "the tower trains": {"adapter": {"preset": "lora", "modules_to_save": ["vision_tower"]}},
    "data.feature_cache_limit: 1 kB": {"data": {"feature_cache_limit": 1000}},
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_refused_run_leaves_nothing(data, tmp_path, reason, dry_run):
    options = dict(REFUSED[reason])
    more = options.pop("data", {})
    recipe = having(tiny_recipe(data, tmp_path / "run", **options), feature_cache=str(tmp_path / "cache"), **more)
    with pytest.raises(ValueError, match=reason.replace("the tower", "the vision tower")):
        train(recipe, dry_run=dry_run)
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()


def test_a_dry_run_keeps_no_features(data, tmp_path):
    recipe = having(tiny_recipe(data, tmp_path / "run"), feature_cache=str(tmp_path / "cache"))
    assert train(recipe, dry_run=True).metrics["steps"] == 2
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_is_named(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FeatureError, match=r"data\.feature_cache: '.*file/cache' cannot be written"):
        run(data, tmp_path / "run", cache=tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 bytes"), (12_480, "12.5 kB"), (3_000_000, "3 MB"), (10**10, "10 GB")]
)
def test_sizes_are_said_in_words(count, text):
    assert size_text(count) == text
