"""Med-Flamingo (OpenFlamingo's 9B layout) in transformers: a perceiver and gated cross-attention around a stock LLaMA.

Each image becomes a few latent vectors. Before every n-th layer of the language model a gated block lets the text look at them.
Nothing is expanded in the text: one `<image>` token marks where an image stands, and which tokens look at which image follows from
its place (`which_image`). Modules carry OpenFlamingo's names, so published weights need a new prefix and nothing more.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    GenerationMixin,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

Attend = Literal["previous", "next"]


class MedFlamingoConfig(PreTrainedConfig):
    """Shapes and rules of a Med-Flamingo.

    Attributes:
        vision_config: configuration of the CLIP tower.
        text_config: configuration of LLaMA, whose vocabulary includes the added tokens.
        image_token_id: id of the token that marks an image's place.
        cross_attn_every_n_layers: a gated block stands before layers n - 1, 2n - 1, ...
        attend: `previous`, text looks at the latest image before it (open_flamingo 2), or `next`, text looks at the image that
            follows (open_flamingo 0.0.2, which Med-Flamingo's requirements name): there only the `<image>` token sees its own
            image, and the text after it learns of the image through self-attention. Which of the two the published weights
            were trained with is not documented.
        num_latents: number of vectors that an image becomes.
        perceiver_depth: number of layers of the perceiver.
        heads: number of heads of every cross-attention.
        head_dim: width of each head.
        mlp_ratio: inner width of the perceiver's and the gated blocks' MLPs over their width.
        vision_feature_layer: hidden state of the tower that the perceiver reads.
        vision_feature_select_strategy: `default` drops the class token, `full` keeps it.
    """

    model_type = "mgll_med_flamingo"
    sub_configs_defaults = {  # noqa: RUF012
        "vision_config": SubConfigSpec(config_class=CLIPVisionConfig),
        "text_config": SubConfigSpec(config_class=LlamaConfig),
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    image_token_id: int = 32001
    cross_attn_every_n_layers: int = 4
    attend: Attend = "previous"
    num_latents: int = 64
    perceiver_depth: int = 6
    heads: int = 8
    head_dim: int = 64
    mlp_ratio: int = 4
    vision_feature_layer: int = -1
    vision_feature_select_strategy: Literal["default", "full"] = "default"
    tie_word_embeddings: bool = False


def which_image(is_image: Tensor, images: int, attend: Attend) -> Tensor:
    """Index of the image that each token looks at; -1 for a token that looks at none.

    When decoding with a cache, `is_image` covers the new tokens only; images that it does not hold came before it.

    Args:
        is_image: marks the `<image>` tokens [B, length].
        images: number of images in each row so far.
        attend: the rule, see `MedFlamingoConfig`.

    Returns:
        int64 [B, length].
    """
    earlier = images - is_image.sum(-1, keepdim=True)
    index = earlier + is_image.cumsum(-1) - 1
    if attend == "previous":
        return index
    index = torch.where(is_image, index, index + 1)
    return torch.where(index < images, index, -1)


def mlp(width: int, ratio: int) -> nn.Sequential:
    """An MLP of a norm, two linear maps without bias and GELU between them: [..., width] to [..., width]."""
    inner = width * ratio
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False)
    )


class CrossAttention(nn.Module):
    """Multi-head attention without bias from queries [B, L, width] to a context [B, n, context width]."""

    def __init__(self, config: MedFlamingoConfig, width: int, context_width: int) -> None:
        super().__init__()
        self.heads, self.scale = config.heads, config.head_dim**-0.5
        inner = config.heads * config.head_dim
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(context_width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def attend(self, queries: Tensor, context: Tensor, visible: Tensor | None = None) -> Tensor:
        """The attended values [B, L, width]; 0 for a query that sees nothing of the context.

        Args:
            queries: [B, L, width].
            context: [B, n, context width].
            visible: which query sees which vector, bool [B, L, n]; None: every query sees every vector.
        """
        q = self._split(self.to_q(queries)) * self.scale
        k, v = (self._split(part) for part in self.to_kv(context).chunk(2, dim=-1))
        scores = q @ k.transpose(-1, -2)
        if visible is not None:
            scores = scores.masked_fill(~visible[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        if visible is not None:  # the softmax of a row without anything visible is uniform
            weights = weights * visible[:, None]
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class PerceiverAttention(CrossAttention):
    """Attention of latents to an image's features and to each other."""

    def __init__(self, config: MedFlamingoConfig, width: int) -> None:
        super().__init__(config, width, width)
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """Attended values [N, latents, width] for features [N, tokens, width] and latents [N, latents, width]."""
        latents = self.norm_latents(latents)
        return self.attend(latents, torch.cat((self.norm_media(features), latents), dim=1))


class PerceiverLayer(nn.ModuleList):
    """One layer of the perceiver: attention (index 0) and MLP (index 1), each added to the latents."""

    def __init__(self, config: MedFlamingoConfig, width: int) -> None:
        super().__init__((PerceiverAttention(config, width), mlp(width, config.mlp_ratio)))

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """New latents [N, latents, width] for features [N, tokens, width] and latents [N, latents, width]."""
        latents = latents + self[0](features, latents)
        return latents + self[1](latents)


class Perceiver(nn.Module):
    """Turns any number of image features into a fixed number of latents, without positions."""

    def __init__(self, config: MedFlamingoConfig) -> None:
        super().__init__()
        width = config.vision_config.hidden_size  # type: ignore[union-attr]
        self.latents = nn.Parameter(torch.randn(config.num_latents, width))
        self.layers = nn.ModuleList(PerceiverLayer(config, width) for _ in range(config.perceiver_depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Latents [N, latents, width] for features [N, tokens, width]."""
        latents = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(features, latents)
        return self.norm(latents)


class MaskedCrossAttention(CrossAttention):
    """Attention of each text token to the latents of one image."""

    def __init__(self, config: MedFlamingoConfig) -> None:
        width = config.text_config.hidden_size  # type: ignore[union-attr]
        super().__init__(config, width, config.vision_config.hidden_size)  # type: ignore[union-attr]
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, latents: Tensor, image_of: Tensor) -> Tensor:
        """Attended values [B, L, width] for text [B, L, width], latents [B, images, n, vision width], image indices [B, L]."""
        images, count = latents.shape[1:3]
        visible = image_of[..., None] == torch.arange(images, device=image_of.device)
        return self.attend(self.norm(hidden), latents.flatten(1, 2), visible.repeat_interleave(count, dim=-1))


class GatedCrossAttentionBlock(nn.Module):
    """Cross-attention and MLP, each behind tanh of a learned gate.

    A new gate is 0: the block then passes the text on unchanged, and no gradient reaches the image but through the gate itself.
    """

    def __init__(self, config: MedFlamingoConfig) -> None:
        super().__init__()
        self.attn = MaskedCrossAttention(config)
        self.attn_gate = nn.Parameter(torch.zeros(1))
        self.ff = mlp(config.text_config.hidden_size, config.mlp_ratio)  # type: ignore[union-attr]
        self.ff_gate = nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Tensor, latents: Tensor | None, image_of: Tensor | None) -> Tensor:
        """New text states [B, L, width]; where there are no images, only the MLP acts."""
        if latents is not None:
            hidden = hidden + self.attn(hidden, latents, image_of) * self.attn_gate.tanh()
        return hidden + self.ff(hidden) * self.ff_gate.tanh()


class FlamingoLayer(LlamaDecoderLayer):
    """A layer of LLaMA, with a gated block in front of it where the configuration says so."""

    def __init__(self, config: MedFlamingoConfig, index: int) -> None:
        super().__init__(config.text_config, index)  # type: ignore[arg-type]
        gated = (index + 1) % config.cross_attn_every_n_layers == 0
        self.gated_cross_attn_layer = GatedCrossAttentionBlock(config) if gated else None

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, *, latents: Tensor | None = None, image_of: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Run the gated block, which takes `latents` and `image_of`, and then the stock layer with all other arguments."""
        if self.gated_cross_attn_layer is not None:
            hidden_states = self.gated_cross_attn_layer(hidden_states, latents, image_of)
        return super().forward(hidden_states, **kwargs)


class MedFlamingoForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Tower, perceiver and LLaMA with gated cross-attention; trains, generates, saves and loads as any model of transformers."""

    config_class = MedFlamingoConfig
    config: MedFlamingoConfig
    base_model_prefix = "language_model"
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["FlamingoLayer", "CLIPEncoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: MedFlamingoConfig) -> None:
        super().__init__(config)
        self.vision_tower = CLIPVisionModel(config.vision_config)  # type: ignore[arg-type]
        self.perceiver = Perceiver(config)
        self.language_model = LlamaForCausalLM(config.text_config)  # type: ignore[arg-type]
        layers = range(len(self.language_model.model.layers))
        self.language_model.model.layers = nn.ModuleList(FlamingoLayer(config, i) for i in layers)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The input embeddings of the language model."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the input embeddings of the language model."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The output embeddings of the language model."""
        return self.language_model.get_output_embeddings()

    def get_image_features(self, pixel_values: Tensor, rows: int = 1) -> Tensor:
        """Latents [rows, images a row, n, width] of images [rows * images a row, 3, H, W].

        The tower's features are taken as its blocks leave them: without the class token, and without the final norm, which the
        open_clip of Med-Flamingo's time did not apply to patches (it does since 2.24).

        Raises:
            ValueError: if the images do not divide among the rows.
        """
        if len(pixel_values) % rows:
            raise ValueError(f"{len(pixel_values)} images for {rows} texts: each text needs equally many")
        states = self.vision_tower(pixel_values, output_hidden_states=True).hidden_states
        features = states[self.config.vision_feature_layer]
        if self.config.vision_feature_select_strategy == "default":
            features = features[:, 1:]
        return self.perceiver(features).unflatten(0, (rows, -1))

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
        latents: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Compute logits [B, length or `logits_to_keep`, vocabulary].

        Args:
            input_ids: [B, length]; with a cache, the new tokens only.
            pixel_values: [B * images a row, 3, H, W], the images of the first row first.
            attention_mask: [B, cached and new length].
            position_ids: [B, length].
            past_key_values: cache of the tokens before.
            inputs_embeds: [B, length, width] in place of `input_ids`.
            labels: [B, length], -100 where there is nothing to learn.
            use_cache: whether to return a cache.
            logits_to_keep: how many of the last positions get logits; 0 is all.
            latents: result of `get_image_features`, in place of `pixel_values`; with a cache, that of all images so far.
            kwargs: further arguments of `LlamaForCausalLM`.

        Raises:
            ValueError: if there are not as many `<image>` tokens as images in every row.
        """
        is_image = self._is_image(input_ids, inputs_embeds)
        if latents is None and pixel_values is not None:
            latents = self.get_image_features(pixel_values, len(is_image))
        cached = past_key_values is not None and past_key_values.get_seq_length() > 0
        images = 0 if latents is None else latents.shape[1]
        if not cached and not (is_image.sum(-1) == images).all():
            raise ValueError(f"{images} images a text, but {is_image.sum(-1).tolist()} `<image>` tokens")
        return self.language_model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            latents=latents,
            image_of=which_image(is_image, images, self.config.attend),
            **kwargs,
        )

    def generate(
        self, inputs: Tensor | None = None, *args: Any, pixel_values: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """Generate as in transformers; the images go through the tower once, and not once for each token."""
        if pixel_values is not None:
            ids = next(x for x in (inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if x is not None)
            with torch.no_grad():
                kwargs["latents"] = self.get_image_features(pixel_values, len(ids))
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def _is_image(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if input_ids is not None:
            return input_ids == self.config.image_token_id
        if inputs_embeds is None:
            raise ValueError("neither input_ids nor inputs_embeds")
        marker = self.get_input_embeddings()(torch.tensor(self.config.image_token_id, device=inputs_embeds.device))
        return (inputs_embeds == marker).all(-1)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Perceiver):
            init.normal_(module.latents)
        elif isinstance(module, GatedCrossAttentionBlock):
            init.zeros_(module.attn_gate)
            init.zeros_(module.ff_gate)


AutoConfig.register("mgll_med_flamingo", MedFlamingoConfig)
