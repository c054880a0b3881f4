"""The vision encoder computes what the released network computes, and is an ordinary transformers model."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModel

from mixtune.pocket.vision import (
    STAGES,
    InvertedBottleneck,
    PocketVisionConfig,
    PocketVisionModel,
    SameConv,
    convert_state_dict,
)


def released_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under the names and shapes of the released file."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, norm: str, out: int, inner: int, kernel: int) -> None:
        state[f"{name}.weight"] = (
            torch.randn(out, inner, kernel, kernel, generator=generator) / (inner * kernel**2) ** 0.5
        )
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.5, 0.5),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 1.5),
        ):
            state[f"{norm}.{part}"] = torch.rand(out, generator=generator) * (high - low) + low

    conv("_conv_stem", "_bn0", 32, 3, 3)
    number, channels = 0, 32
    for repeats, kernel, _, expansion, out in STAGES:
        for _ in range(repeats):
            block, inner = f"_blocks.{number}", channels * expansion
            if expansion != 1:
                conv(f"{block}._expand_conv", f"{block}._bn0", inner, channels, 1)
            conv(f"{block}._depthwise_conv", f"{block}._bn1", inner, 1, kernel)
            conv(f"{block}._project_conv", f"{block}._bn2", out, inner, 1)
            channels, number = out, number + 1
    return state


def test_folding_keeps_the_released_function() -> None:
    """The first two stages by hand: convolution, then batch norm, then ReLU6, as the released network writes them."""
    state = released_state()
    model = PocketVisionModel(PocketVisionConfig())
    left = model.load_state_dict(convert_state_dict(state), strict=False)
    assert set(left.missing_keys) == {"feature_mean", "feature_std"} and not left.unexpected_keys

    def conv_norm(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{conv}.weight"]
        same = SameConv(
            x.shape[1],
            weight.shape[0],
            weight.shape[-1],
            stride=stride,
            bias=False,
            groups=x.shape[1] // weight.shape[1],
        )
        same.weight.data = weight
        parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(same(x), *parts, eps=1e-3)

    x = torch.randn(1, 3, 64, 64)
    h = F.relu6(conv_norm(x, "_conv_stem", "_bn0", 2))
    h = conv_norm(
        F.relu6(conv_norm(h, "_blocks.0._depthwise_conv", "_blocks.0._bn1")),
        "_blocks.0._project_conv",
        "_blocks.0._bn2",
    )
    for number, stride in ((1, 2), (2, 1)):
        block = f"_blocks.{number}"
        inner = F.relu6(conv_norm(h, f"{block}._expand_conv", f"{block}._bn0"))
        inner = F.relu6(conv_norm(inner, f"{block}._depthwise_conv", f"{block}._bn1", stride))
        inner = conv_norm(inner, f"{block}._project_conv", f"{block}._bn2")
        h = h + inner if stride == 1 else inner
    with torch.no_grad():
        ours = F.relu6(model.stem(x))
        for stage in model.stages[:2]:
            ours = stage(ours)
    torch.testing.assert_close(ours, h, atol=1e-5, rtol=1e-5)


def test_same_padding_halves_any_side_and_pads_right_and_below() -> None:
    conv = SameConv(1, 1, 3, stride=2, bias=False)
    conv.weight.data.fill_(1.0)
    for side in (7, 8, 15, 16):
        assert conv(torch.ones(1, 1, side, side)).shape[-1] == -(-side // 2)
    corner = conv(torch.ones(1, 1, 8, 8))[0, 0]
    assert (
        corner[0, 0] == 9 and corner[-1, -1] == 4
    )  # nothing padded above and left, one row and column below and right


def test_a_skip_only_where_the_shape_stays() -> None:
    assert InvertedBottleneck(8, 8, kernel=3, stride=1, expansion=6).has_skip
    assert not InvertedBottleneck(8, 8, kernel=3, stride=2, expansion=6).has_skip
    assert not InvertedBottleneck(8, 16, kernel=3, stride=1, expansion=6).has_skip


def test_tokens_are_standardised_and_know_their_place() -> None:
    model = PocketVisionModel(PocketVisionConfig()).eval()
    with torch.no_grad():
        model.feature_mean.fill_(2.0)
        model.feature_std.fill_(4.0)
        pictures = torch.randn(2, 3, 128, 128)
        out = model(pictures)
        expected = (model.maps(pictures) - 2.0) / 4.0
    tokens = out.last_hidden_state
    assert tokens.shape == (2, 16, 1416) == (2, model.config.grid**2, model.config.hidden_size)
    torch.testing.assert_close(tokens[..., :1408], expected)
    rows, columns = tokens[0, :, 1408:1412].argmax(-1), tokens[0, :, 1412:].argmax(-1)
    assert [(int(r), int(c)) for r, c in zip(rows, columns, strict=True)] == [(i // 4, i % 4) for i in range(16)]


def test_train_mode_changes_nothing_and_the_model_saves_and_loads(tmp_path: Path) -> None:
    model = PocketVisionModel(PocketVisionConfig())
    pictures = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        quiet, loud = model.eval()(pictures).last_hidden_state, model.train()(pictures).last_hidden_state
        model.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path)(pictures).last_hidden_state
    assert torch.equal(quiet, loud) and torch.equal(quiet, again)
