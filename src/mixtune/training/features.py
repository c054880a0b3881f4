"""A run's frozen vision features: whether they can be kept, what they depend on, and the pass that fills the store."""

from __future__ import annotations

import hashlib
import json
import platform
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from mixtune.adapters import families
from mixtune.config import Recipe, expand_path, mixtune_home
from mixtune.data import Encoder, ImageRef, Sample, load_image
from mixtune.data.features import FeatureStore, picture_key, space_key
from mixtune.data.features.store import HEADER_BYTES, SHARDS
from mixtune.data.progress import progress
from mixtune.data.tokens import TokenWriter
from mixtune.training.arguments import training_arguments
from mixtune.training.tower import TowerError, check_tower, layers_read, picture_features

FIELD = "data.feature_cache"
REPEATS = 8  # a picture flipped at random comes out the same eight times in a row once in 128


class FeatureError(ValueError):
    """A recipe's `data.feature_cache` or `train.vision_batch_size` cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Pictures of a run, by key, and the store of their features; `bytes` is what those of one picture take."""

    pictures: dict[str, ImageRef]
    store: FeatureStore
    bytes: int


def plan_features(recipe: Recipe, model: Any, encoder: Encoder, samples: Sequence[Sample]) -> Features | None:
    """Where the run's features lie, None if the recipe wants none or no sample has a picture. Nothing is written.

    Raises FeatureError, naming the field, if the tower trains or does not work picture by picture
    (`tower.check_tower`), if the processor is random, or if the run's features need more room than
    `data.feature_cache_limit` or the disk has.
    """
    wanted, at_once = recipe.data.feature_cache, recipe.train.vision_batch_size
    first = next((ref for sample in samples for ref in sample.images), None)
    if first is None or not (wanted or at_once):
        return None
    field = FIELD if wanted else "train.vision_batch_size"
    writer, picture = TokenWriter(encoder.processor), load_image(first)
    try:
        example = check_tower(model, writer.pictures([picture]).tensors)
    except TowerError as error:
        raise FeatureError(f"{field}: {error}; leave it out") from error
    if not wanted:
        return None
    _check_processor(writer, picture.size)
    every = [ref for sample in samples for ref in sample.images]
    pictures = {picture_key(ref): ref for ref in progress(every, "reading pictures", len(every))}
    root = mixtune_home() / "features" if wanted is True else Path(expand_path(str(wanted)))
    space = space_key(feature_facts(model, encoder.processor, example))
    store = FeatureStore(root, space, recipe.data.feature_cache_limit)
    features = Features(pictures=pictures, store=store, bytes=example.numel() * example.element_size() + HEADER_BYTES)
    _check_room(features)
    return features


def feature_facts(model: Any, processor: Any, example: Tensor) -> dict[str, Any]:
    """All that a picture's features depend on besides the picture.

    The tower's weights, its settings and what the model reads from it; the processor's settings; dtype and shape; and
    what may change last bits: versions, device and the number of threads.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    tower: Any = families.vision_tower(inner)[1]
    pictures = getattr(processor, "image_processor", processor)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = torch.cuda.get_device_name() if device is not None and device.type == "cuda" else str(device)
    return {
        "tower": weights_digest(tower),
        "tower_settings": json.loads(tower.config.to_json_string()) if hasattr(tower, "config") else repr(tower),
        "attention": getattr(getattr(tower, "config", None), "_attn_implementation", None),
        "layers": layers_read(inner),
        "model": type(inner).__name__,
        "processor": {"class": type(pictures).__name__, **pictures.to_dict()},
        "dtype": str(example.dtype),
        "shape": list(example.shape[1:]),
        "versions": [torch.__version__, transformers.__version__, PIL.__version__],
        "device": [name, platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "threads": torch.get_num_threads() if device is None else None,
        "precision": torch.get_float32_matmul_precision(),
    }


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _generators() -> list[Any]:
    return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]


def _check_processor(writer: TokenWriter, size: tuple[int, int]) -> None:
    """Raise FeatureError if the processor is random, or gives pictures of other proportions other shapes."""
    name = type(getattr(writer.processor, "image_processor", writer.processor)).__name__
    before, made = _generators(), [_pixels_of_noise(writer, size) for _ in range(REPEATS)]
    if _generators() != before or not all(torch.equal(made[0], each) for each in made):
        raise FeatureError(
            f"{FIELD}: {name} is random (it draws numbers, or makes other pixels of the same picture each time), so a "
            "picture has no features of its own; leave it out"
        )
    long, short = max(size), max(1, max(size) // 4)
    shapes = {tuple(made[0].shape), *(tuple(_pixels_of_noise(writer, s).shape) for s in ((long, short), (short, long)))}
    if len(shapes) > 1:
        raise FeatureError(
            f"{FIELD}: {name} makes pixels {' and '.join(map(str, sorted(shapes)))} of pictures of other proportions; "
            "features can be kept only where all pictures are turned into one shape; leave it out"
        )


def _pixels_of_noise(writer: TokenWriter, size: tuple[int, int]) -> Tensor:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return writer.pictures([Image.fromarray(noise)]).tensors["pixel_values"]


def _check_room(features: Features) -> None:
    """Raise FeatureError if the features cannot all lie in the store at once."""
    needed = len(features.pictures) * features.bytes
    what = f"features of {len(features.pictures):,} pictures take {size_text(needed)}"
    if needed > features.store.limit:
        raise FeatureError(
            f"{FIELD}_limit: {size_text(features.store.limit)}, but {what}; raise it, or leave {FIELD} out"
        )
    nearest = next(path for path in (features.store.folder, *features.store.root.absolute().parents) if path.exists())
    there = sum(shard.stat().st_size for shard in features.store.folder.glob(SHARDS))
    free = shutil.disk_usage(nearest).free + there
    if free < needed:
        reason = f"{what}, but '{nearest}' has {size_text(free)} free"
        raise FeatureError(f"{FIELD}: {reason}; name a folder on another disk")


def size_text(count: int) -> str:
    """Bytes in words: "640 kB", "1.2 GB"."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count} bytes"


def fill_features(features: Features, recipe: Recipe, model: Any, encoder: Encoder, say: Callable[..., None]) -> None:
    """Bring the features of all pictures into the store; those that are there already are checked and kept.

    A picture goes through the tower by itself, on the device and in the dtype of training. Raises FeatureError if the
    folder cannot be written.
    """
    store, writer, begun = features.store, TokenWriter(encoder.processor), time.monotonic()
    device = training_arguments(recipe.train, recipe.data).device
    told = partial(say, f"features   another run is filling {store.folder}; waiting for it")
    with _encoder_on(device, model):
        try:
            with store.filling(told):
                names = progress(features.pictures, "checking features", len(features.pictures))
                missing = store.missing(names)
                for key in progress(missing, "encoding pictures", len(missing)):
                    store.add(key, _encode_one(model, writer, features.pictures[key]))
        except (OSError, SafetensorError) as error:
            raise FeatureError(f"{FIELD}: '{store.root}' cannot be written ({error}); name another folder") from error
        bits = _bits_line(features, recipe, model, writer)
    count, made = len(features.pictures), len(missing)
    say(
        f"features   {count:,} pictures, {count - made:,} of them kept from before, {made:,} encoded now "
        f"({time.monotonic() - begun:.1f} s)",
        f"             in {store.folder}; all kept features take {size_text(store.bytes)} of {size_text(store.limit)}",
        f"             {bits}",
    )


@contextmanager
def _encoder_on(device: torch.device, model: Any) -> Iterator[None]:
    """Vision tower and projector on the device of training, where the trainer has not put the model yet."""
    modules = [families.vision_tower(model)[1], families.projector(model)[1]]
    home = next(modules[0].parameters()).device
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.to(home)


def _bits_line(features: Features, recipe: Recipe, model: Any, writer: TokenWriter) -> str:
    """Whether the tower gives these bits for a batch of pictures too, as it would without the store."""
    batch = list(features.pictures.items())[: recipe.train.per_device_train_batch_size]
    together = _encode(model, writer, [ref for _, ref in batch])
    alone = [features.store.get(key) for key, _ in batch]
    if all(each is not None and torch.equal(each, row.cpu()) for each, row in zip(alone, together, strict=True)):
        return f"the same bits as {len(batch)} pictures at once"
    return (
        f"their last bits are not those of {len(batch)} pictures at once; the same curve without them: {FIELD}=false "
        "train.vision_batch_size=1"
    )


def _encode_one(model: Any, writer: TokenWriter, ref: ImageRef) -> Tensor:
    """The features [P, F] of a picture that goes through the tower by itself."""
    made = _encode(model, writer, [ref])
    if len(made) != 1:
        raise FeatureError(f"{FIELD}: {ref}: the processor cuts this picture into {len(made)}; leave {FIELD} out")
    return made[0]


def _encode(model: Any, writer: TokenWriter, refs: Sequence[ImageRef]) -> Tensor:
    """The features [N, P, F] of these pictures, all at once."""
    tower = next(families.vision_tower(model)[1].parameters())
    pixels = writer.pictures([load_image(ref) for ref in refs]).tensors["pixel_values"]
    return picture_features(model, pixels.to(tower.device).to(tower.dtype))
