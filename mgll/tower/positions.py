"""Learned position embeddings of a ViT, and their interpolation to another grid."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Names of the position embeddings in the models that a tower can be.
POSITION_TABLES = (
    "embeddings.position_embedding.weight",  # CLIP, SigLIP, AIMv2
    "embeddings.position_embeddings",  # ViT, DeiT, DINOv2, I-JEPA
    "timm_model.pos_embed",
)


def resize_positions(table: "Tensor", grid: int) -> "Tensor":
    """Position embeddings [..., rows, width] for another grid: [..., rows - side ** 2 + grid ** 2, width], bicubic.

    The rows beyond the largest square, those of the class token and of registers, come first and stay. The arithmetic is that of
    `interpolate_pos_encoding` in transformers, so a tower with baked embeddings gives the same output as one that interpolates
    while running.
    """
    # here, because torch takes seconds to import
    import torch

    rows, width = table.shape[-2:]
    side = math.isqrt(rows)
    first, patches = table.reshape(rows, width).split((rows - side**2, side**2))
    image = patches.T.reshape(1, width, side, side)
    resized = torch.nn.functional.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat((first, resized[0].flatten(1).T)).reshape(*table.shape[:-2], -1, width)
