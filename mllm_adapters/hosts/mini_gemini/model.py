"""Mini-Gemini: a LLaVA whose image tokens look up detail in a high-resolution feature map before the language model sees them.

Pixels arrive once, large (768 px). A ConvNeXt makes a map of them, the low-resolution tower its tokens from a smaller copy;
each token then attends to the cells of the map that lie where it lies. Everything else is transformers' LLaVA.
"""

import math
from typing import Any

import torch
from timm.layers import LayerNorm, LayerNorm2d
from timm.models.convnext import ConvNeXtStage
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, LlavaConfig, LlavaForConditionalGeneration, LlavaModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class MiniGeminiConfig(LlavaConfig):
    """LLaVA's configuration and that of the high-resolution branch.

    Attributes:
        low_image_size: side in pixels of the copy that the low-resolution tower is given, resized bilinearly; None: the tower is
            given the large image and resizes it itself (a grafted tower).
        convnext_dims: number of channels of each stage of the high-resolution branch.
        convnext_depths: number of blocks of each stage.
    """

    model_type = "mgll_mini_gemini"

    vision_config: Any = None
    text_config: Any = None
    low_image_size: int | None = 336
    convnext_dims: list[int] | tuple[int, ...] = (192, 384, 768, 1536)
    convnext_depths: list[int] | tuple[int, ...] = (3, 3, 27, 3)


class ConvNeXtMap(nn.Module):
    """Stem and stages of a timm ConvNeXt whose outputs form one map: later stages are enlarged to the first, channels joined."""

    def __init__(self, dims: list[int] | tuple[int, ...], depths: list[int] | tuple[int, ...]) -> None:
        super().__init__()
        self.vision_stem = nn.Sequential(nn.Conv2d(3, dims[0], kernel_size=4, stride=4), LayerNorm2d(dims[0]))
        self.vision_stages = nn.Sequential(
            *(
                ConvNeXtStage(
                    width_in, width, stride=stride, depth=depth, norm_layer=LayerNorm2d, norm_layer_cl=LayerNorm
                )
                for width_in, width, stride, depth in zip(
                    (dims[0], *dims), dims, (1, *[2] * (len(dims) - 1)), depths, strict=False
                )
            )
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map [B, sum of channels, H / 4, W / 4] of pixels [B, 3, H, W]."""
        state, maps = self.vision_stem(pixels), []
        for stage in self.vision_stages:
            state = stage(state)
            maps.append(state)
        return torch.cat([maps[0], *(_resize(later, maps[0].shape[-1]) for later in maps[1:])], dim=1)


class PatchInfoMining(nn.Module):
    """Adds detail from a map to each token: the token attends with one query to the cells of its own window of the map.

    Written out, keys and values are a norm and a linear map of every cell, tens of thousands of them. Both are linear in the
    cell once that is normalised, so they move to the other side of the sum: the query is taken back through the key's map and
    compared with the bare cells, and the value's map is applied to the one weighted mean. The same numbers from the few tokens
    that there are instead of the many cells.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.key = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width))
        self.value = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width))

    def forward(self, tokens: Tensor, cells: Tensor) -> Tensor:
        """New tokens [B, side * side, width] for tokens of the same shape and a map [B, channels, S, S].

        Raises:
            ValueError: if the map cannot be cut into side x side windows.
        """
        norm, linear = _parts(self.key)
        windows = nn.functional.layer_norm(_windows(cells, tokens.shape[1]), norm.normalized_shape, eps=norm.eps)
        query = self.query(tokens)
        on_cells = (query @ linear.weight) * norm.weight
        on_all = query @ nn.functional.linear(norm.bias, linear.weight, linear.bias)
        scores = (windows @ on_cells[..., None]).squeeze(-1) + on_all[..., None]
        attention = (scores / math.sqrt(query.shape[-1])).softmax(dim=-1)
        mean = (attention[..., None, :] @ windows).squeeze(-2)
        norm, linear = _parts(self.value)
        found: Tensor = linear(mean * norm.weight + norm.bias)
        return tokens + found


class MiniGeminiModel(LlavaModel):
    """A `LlavaModel` with the high-resolution branch."""

    config_class = MiniGeminiConfig

    def __init__(self, config: MiniGeminiConfig) -> None:
        super().__init__(config)
        self.vision_tower_aux = ConvNeXtMap(config.convnext_dims, config.convnext_depths)
        self.mining = PatchInfoMining(config.vision_config.hidden_size, sum(config.convnext_dims))
        self.post_init()

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Vectors for the language model as `pooler_output`, [tokens, hidden] for each of the pixels [B, 3, H, W].

        Raises:
            ValueError: if the tower's grid does not divide the map's.
        """
        size, layer = self.config.low_image_size, self.config.vision_feature_layer
        low = pixel_values if size is None else _resize(pixel_values, size)
        tokens = self.vision_tower(low, output_hidden_states=True).hidden_states[layer]
        if self.config.vision_feature_select_strategy == "default":
            tokens = tokens[:, 1:]
        tokens = self.mining(tokens, self.vision_tower_aux(pixel_values))
        features: Any = list(self.multi_modal_projector(tokens))  # what LLaVA's forward takes
        return BaseModelOutputWithPooling(pooler_output=features)


class MiniGeminiForConditionalGeneration(LlavaForConditionalGeneration):
    """A `LlavaForConditionalGeneration` around `MiniGeminiModel`; `pixel_values` are [B, 3, 768, 768]."""

    config_class = MiniGeminiConfig

    def __init__(self, config: MiniGeminiConfig) -> None:
        super(LlavaForConditionalGeneration, self).__init__(config)
        self.model = MiniGeminiModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()


def _resize(maps: Tensor, size: int) -> Tensor:
    """Resize a map or image [B, C, H, W] in float32, bilinearly and without antialiasing, as the published code does."""
    resized = nn.functional.interpolate(maps.float(), size=(size, size), mode="bilinear", align_corners=False)
    return resized.to(maps.dtype)


def _parts(pair: nn.Sequential) -> tuple[nn.LayerNorm, nn.Linear]:
    norm, linear = pair
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(linear, nn.Linear)
    return norm, linear


def _windows(cells: Tensor, count: int) -> Tensor:
    """Cut a map [B, C, S, S] into windows, row by row: [B, count, cells of a window, C]."""
    side, across = math.isqrt(count), cells.shape[-1]
    if side * side != count or across % side:
        raise ValueError(f"a map of {across} x {across} cells cannot be shared out among {count} tokens in a square")
    width = across // side
    cut = cells.unflatten(3, (side, width)).unflatten(2, (side, width))  # [B, C, row, y, column, x]
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(len(cells), count, width * width, -1)


AutoConfig.register(MiniGeminiConfig.model_type, MiniGeminiConfig)
AutoModelForImageTextToText.register(MiniGeminiConfig, MiniGeminiForConditionalGeneration)
