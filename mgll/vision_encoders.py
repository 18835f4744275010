"""Image encoders by name, all as transformers' `CLIPVisionModel`."""

from types import MappingProxyType
from typing import Any

from transformers import CLIPVisionConfig, CLIPVisionModel

from mgll.vision_initialisation import initialise_from_scratch

#: name -> width, depth, heads, patch size in pixels
ENCODERS = MappingProxyType(
    {
        "vit-nano-16": (64, 4, 2, 16),
        "vit-mini-16": (192, 6, 3, 16),
        "vit-tiny-16": (192, 12, 3, 16),
        "vit-small-16": (384, 12, 6, 16),
        "vit-base-16": (768, 12, 12, 16),
        "vit-large-14": (1024, 24, 16, 14),
    }
)


def vision_encoder(name: str, image_size: int, **config: Any) -> CLIPVisionModel:
    """A randomly initialised encoder; seed torch before.

    Raises:
        ValueError: for an unknown name, or an image size that its patches do not tile.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    width, depth, heads, patch = ENCODERS[name]
    if image_size % patch:
        raise ValueError(f"encoder {name!r} has patches of {patch} px, which do not tile {image_size} px")
    defaults = {"hidden_act": "gelu", "projection_dim": width}
    shape = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        patch_size=patch,
        image_size=image_size,
        **{**defaults, **config},
    )
    model = CLIPVisionModel(shape)
    initialise_from_scratch(model)
    return model
