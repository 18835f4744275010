"""Start weights for a ViT that is trained from scratch on few images.

Two facts about trained ViTs are put in at the start: positions are sines and cosines of row and column, and attention looks at
tokens like the token itself ("mimetic" initialisation, Trockman and Kolter 2023: queries times keys near the identity, values times
output near minus the identity). Learning these from a few thousand photographs would take most of a short run.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionModel, PreTrainedModel

QUERY_KEY = (0.7, 0.7)  # noise and identity of W_q W_k^T
VALUE_OUTPUT = (0.4, -0.4)  # noise and identity of W_v W_o


def initialise(model: PreTrainedModel) -> None:
    """Overwrite an encoder's weights in place with those for training from scratch; draws from torch's random state."""
    if isinstance(model, CLIPVisionModel):
        initialise_from_scratch(model)
    elif trunk := getattr(model, "timm_model", None):  # transformers gives all of timm's layers the same distribution
        import timm

        config: Any = model.config
        fresh = timm.create_model(config.architecture, num_classes=0, **(config.model_args or {}))
        trunk.load_state_dict(fresh.state_dict(), strict=True)


@torch.no_grad()
def initialise_from_scratch(model: CLIPVisionModel) -> None:
    """Overwrite the attention and position weights of a CLIP ViT in place; draws from torch's random state."""
    embeddings: Any = model.embeddings
    layers: Any = model.encoder.layers
    config: Any = model.config
    embeddings.position_embedding.weight[1:] = sine_positions(
        config.image_size // config.patch_size, config.hidden_size
    )
    embeddings.position_embedding.weight[0] = 0
    for layer in layers:
        _initialise_attention(layer.self_attn, config.num_attention_heads)


def sine_positions(side: int, width: int) -> Tensor:
    """Position embeddings that are sines and cosines of row and column: [side * side, width].

    Raises:
        ValueError: if the width is not divisible by 4.
    """
    if width % 4:
        raise ValueError(f"width {width} does not divide by 4")
    frequencies = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies  # [side, width / 4]
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)
    rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    return 0.5 * torch.cat((rows, columns), dim=2).reshape(side * side, width)


def _initialise_attention(attention: Any, heads: int) -> None:
    width = attention.q_proj.weight.shape[0]
    queries, keys = [], []
    for _ in range(heads):
        left, right = _factors(width, width // heads, QUERY_KEY)
        queries.append(left.T)
        keys.append(right)
    attention.q_proj.weight.copy_(torch.cat(queries))
    attention.k_proj.weight.copy_(torch.cat(keys))
    values, output = _factors(width, width, VALUE_OUTPUT)
    attention.v_proj.weight.copy_(values.T)
    attention.out_proj.weight.copy_(output.T)


def _factors(width: int, rank: int, mixture: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Factors [width, rank] and [rank, width] of the best approximation of that rank to noise plus identity."""
    noise, identity = mixture
    target = noise * torch.randn(width, width) / width**0.5 + identity * torch.eye(width)
    left, scales, right = torch.linalg.svd(target)
    root = scales[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]
