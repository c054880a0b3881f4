"""From samples to what the projector reads, with the feature cache and without it.

Without, pictures are decoded and resized and go through the frozen tower: that pass is what the cache takes away. With,
stored features are looked up and checked. Towers have random weights: the pocket model's (EfficientNet-Lite0, 128
pixels) and CLIP's ViT-B/16 (224 pixels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from benchmarks.harness import Case, Run
from mixtune.data import Collator, Encoder, Sample, load_image
from mixtune.data.features import FeatureCollator, FeatureStore, picture_key
from mixtune.data.tokens import TokenWriter
from mixtune.pocket import PocketVisionConfig, PocketVisionModel

WITHOUT, PIXELS, WITH = "no cache: pictures, tower", "no cache: pictures alone", "cache: stored features"


def pocket_tower() -> nn.Module:
    """EfficientNet-Lite0."""
    return PocketVisionModel(PocketVisionConfig())


def clip_tower() -> nn.Module:
    """CLIP's ViT-B/16."""
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=224, patch_size=16))


TOWERS: Mapping[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "pocket": (pocket_tower, {"side": 128, "patch": 32}),
    "clip-b16": (clip_tower, {"side": 224, "patch": 16}),
}
"""Of each name: what builds the tower, and what its processor has to know."""


def cases(settings: Any, samples: Sequence[Sample], make_processor: Callable[..., Any]) -> Iterator[Case]:
    """One case for each dtype and tower; `settings` is data.DataSettings. The store goes when all are done."""
    for dtype in settings.dtypes:
        for name in settings.towers:
            build, sizes = TOWERS[name]
            torch.manual_seed(0)
            tower = build().to(device=settings.device, dtype=getattr(torch, dtype)).eval().requires_grad_(False)
            collator = Collator(Encoder(make_processor(**sizes), max_length=4096), ["draw"])
            with TemporaryDirectory() as folder:
                yield Case(
                    facts={"dtype": dtype, "tower": name, "batch": len(samples), "side": sizes["side"]},
                    arms=arms(samples, collator, tower, Path(folder)),
                    reference=WITHOUT,
                    work=len(samples),
                    unit="samples",
                )


def arms(samples: Sequence[Sample], collator: Collator, tower: Any, folder: Path) -> dict[str, Callable[[], Run]]:
    """The ways from samples to a batch with features (or, to tell the parts apart, with pixels) by name."""
    return {
        WITHOUT: lambda: once(lambda: encode(tower, collator(samples)["pixel_values"])),
        PIXELS: lambda: once(partial(collator, samples)),
        WITH: lambda: once(partial(filled(samples, collator, tower, folder), samples)),
    }


@torch.no_grad()
def encode(tower: Any, pixels: Tensor) -> Tensor:
    """Features [N, P, F] of pictures."""
    return tower(pixels.to(tower.device, tower.dtype)).last_hidden_state


def filled(samples: Sequence[Sample], collator: Collator, tower: Any, folder: Path) -> FeatureCollator:
    """The collator with a store in `folder` that has the features of all pictures, encoded one by one."""
    store, writer = FeatureStore(folder, "space", limit=10**10), TokenWriter(collator.encoder.processor)
    with store.filling():
        for ref in (ref for sample in samples for ref in sample.images):
            pixels = writer.pictures([load_image(ref)]).tensors["pixel_values"]
            store.add(picture_key(ref), encode(tower, pixels)[0])
    return FeatureCollator(collator, store)


def once(call: Callable[[], Any]) -> Run:
    """A run of one phase."""

    def run() -> Iterator[str]:
        call()
        yield "batch"

    return run
