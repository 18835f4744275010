"""Qwen-VL without its remote code: a stock Qwen2 decoder behind a vision tower and a resampler of 256 queries.

The published code does not run on the transformers of today. Its decoder is Qwen2's under other names, so only the tower (a ViT
without a class token) and the resampler are written here; `mllm_adapters.hosts.qwen_vl.layout` renames the published tensors. Equal
to the published code up to 2,048 tokens; beyond them it stretches positions and attention, which is left out here and refused.
"""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from transformers import initialization as init
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import CausalLMOutputWithPast


class QwenViTConfig(PreTrainedConfig):
    """Configuration of Qwen-VL's own tower; the defaults are those of the published ViT-bigG."""

    model_type = "mgll_qwen_vit"

    image_size: int = 448
    patch_size: int = 14
    hidden_size: int = 1664
    intermediate_size: int = 8192
    num_hidden_layers: int = 48
    num_attention_heads: int = 16
    position_grid: int = 16


class QwenVLConfig(PreTrainedConfig):
    """Configuration of the whole model.

    Attributes:
        text_config: configuration of the decoder.
        vision_config: configuration of the published tower, also where a graft has taken its place.
        feature_width: width of the tower's tokens; None: the published tower's width.
        query_grid: square root of the number of the resampler's queries.
        resampler_heads: number of attention heads of the resampler.
        image_token_id: id of the token that is replaced by the image's features (`<imgpad>`).
    """

    model_type = "mgll_qwen_vl"
    sub_configs_defaults: ClassVar = {
        "text_config": SubConfigSpec(config_class=Qwen2Config),
        "vision_config": SubConfigSpec(config_class=QwenViTConfig),
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    feature_width: int | None = None
    query_grid: int = 16
    resampler_heads: int = 32
    image_token_id: int = 151859
    tie_word_embeddings: bool = False


class QwenViT(nn.Module):
    """The published tower, a ViT with neither class token nor last norm."""

    def __init__(self, config: QwenViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.conv1 = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.positional_embedding = nn.Parameter(torch.zeros(config.position_grid**2, width))
        self.ln_pre = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(QwenViTBlock(config) for _ in range(config.num_hidden_layers))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Tokens [B, patches, width] of pixels [B, 3, H, W]."""
        patches = self.conv1(pixel_values).flatten(2).transpose(1, 2)
        x = self.ln_pre(patches + positions_for(self.positional_embedding, patches.shape[1]))
        for block in self.blocks:
            x = block(x)
        return x


class QwenViTBlock(nn.Module):
    """A transformer block that normalises before attention and MLP."""

    def __init__(self, config: QwenViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"in_proj": nn.Linear(width, 3 * width), "out_proj": nn.Linear(width, width)})
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, config.intermediate_size), "c_proj": nn.Linear(config.intermediate_size, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """New states of tokens [B, patches, width]."""
        # rows of in_proj lie head by head (q, k, v of the first head, then of the second), not in three big chunks
        heads = self.attn["in_proj"](self.ln_1(x)).unflatten(-1, (self.heads, 3, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(*heads.unbind(-2))
        x = x + self.attn["out_proj"](attended.transpose(1, 2).flatten(2))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class QwenResampler(nn.Module):
    """Learned queries that attend to the tower's tokens."""

    pos_embed: Tensor

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        width, queries = config.text_config.hidden_size, config.query_grid**2  # type: ignore[union-attr]
        vision_width = config.feature_width or config.vision_config.hidden_size  # type: ignore[union-attr]
        self.query_grid = config.query_grid
        self.query = nn.Parameter(torch.zeros(queries, width))
        self.register_buffer("pos_embed", sincos_positions(width, config.query_grid))  # in the files, but never trained
        self.kv_proj = nn.Linear(vision_width, width, bias=False)
        self.ln_q, self.ln_kv, self.ln_post = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attn = nn.MultiheadAttention(width, config.resampler_heads, batch_first=True)
        self.proj = nn.Parameter(torch.zeros(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Features [B, query_grid ** 2, hidden] of tokens [B, any square number, feature width]."""
        values = self.ln_kv(self.kv_proj(tokens))
        # transformers leaves a buffer in float32, whatever the weights are
        keys = values + positions_for(self.pos_embed, tokens.shape[1]).to(values.dtype)
        queries = (self.ln_q(self.query) + self.pos_embed.to(values.dtype)).expand(len(tokens), -1, -1)
        attended, _ = self.attn(queries, keys, values, need_weights=False)
        return self.ln_post(attended) @ self.proj


class QwenVisual(nn.Module):
    """Tower and resampler, which turn pixels into features of the decoder."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        self.tower = QwenViT(config.vision_config)  # type: ignore[arg-type]
        self.resampler = QwenResampler(config)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features [B, query_grid ** 2, hidden] of pixels [B, 3, H, W]."""
        return self.resampler(self.tower(pixel_values))


def positions_for(table: Tensor, count: int) -> Tensor:
    """Resize a square table of positions [side ** 2, width] to another square [count, width], bicubic.

    Raises:
        ValueError: if `count` is no square number.
    """
    if len(table) == count:
        return table
    side, new = math.isqrt(len(table)), math.isqrt(count)
    if new * new != count:
        raise ValueError(f"{count} tokens do not form a square grid")
    image = table.float().T.reshape(1, -1, side, side)
    resized = F.interpolate(image, size=(new, new), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.to(table.dtype)


def sincos_positions(width: int, grid: int) -> Tensor:
    """Positions [grid ** 2, width]: sines and cosines of the column in the first half of the width, of the row in the second."""
    place = torch.arange(grid, dtype=torch.float64)
    frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = place[:, None] * frequencies
    waves = torch.cat((angles.sin(), angles.cos()), dim=-1)
    return torch.cat((waves.repeat(grid, 1), waves.repeat_interleave(grid, 0)), dim=-1).float()


class QwenVLForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Qwen-VL: each `image_token_id` in the text is replaced by a feature of its images, in their order."""

    config: QwenVLConfig
    config_class = QwenVLConfig
    base_model_prefix = "language_model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012 (transformers' own form)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _no_split_modules = ["Qwen2DecoderLayer", "QwenViTBlock"]  # noqa: RUF012

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__(config)
        self.visual = QwenVisual(config)
        self.language_model = Qwen2ForCausalLM._from_config(config.text_config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, QwenViT):
            init.normal_(module.positional_embedding, std=module.positional_embedding.shape[1] ** -0.5)
        if isinstance(module, QwenResampler):
            init.trunc_normal_(module.query, std=0.02)
            init.normal_(module.proj, std=module.proj.shape[0] ** -0.5)
            init.copy_(module.pos_embed, sincos_positions(module.query.shape[1], module.query_grid))

    def get_input_embeddings(self) -> nn.Module:
        """The input embeddings of the decoder."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the input embeddings of the decoder."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The output embeddings of the decoder."""
        return self.language_model.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Compute logits as any decoder of transformers does; `pixel_values` [images, 3, H, W] stand in the order of their tokens.

        Raises:
            ValueError: if images and their places do not agree, or the text is longer than the decoder's positions.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            if input_ids is None:
                raise ValueError("images need input_ids, which say where they belong")
            inputs_embeds = self._with_images(input_ids, inputs_embeds, pixel_values)
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        length = past + inputs_embeds.shape[1] if position_ids is None else int(position_ids.max()) + 1
        limit = self.config.text_config.max_position_embeddings  # type: ignore[union-attr]
        if length > limit:
            raise ValueError(f"{length} tokens, {limit} is the most that this model takes")
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def _with_images(self, input_ids: Tensor, embeddings: Tensor, pixel_values: Tensor) -> Tensor:
        features = self.visual(pixel_values).to(embeddings.device, embeddings.dtype)
        places = input_ids == self.config.image_token_id
        if int(places.sum()) != features.shape[0] * features.shape[1]:
            raise ValueError(
                f"{int(places.sum())} image tokens in the text, {features.shape[0]} images of {features.shape[1]} features"
            )
        return embeddings.masked_scatter(places[..., None], features)


AutoConfig.register(QwenViTConfig.model_type, QwenViTConfig)
AutoConfig.register(QwenVLConfig.model_type, QwenVLConfig)
