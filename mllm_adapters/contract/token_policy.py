"""How many image tokens the language model sees when the donor's grid is not the old tower's.

- `native`: the donor's own grid; the count of placeholders changes. Nothing is interpolated.
- `resize_features`: the donor runs at its own resolution, its grid is resized bilinearly to the old one. Equal token count,
  so the fairest comparison with the host; needs a hook at run time, hence `mllm_adapters.load`.
- `resize_posemb`: position embeddings are interpolated (bicubic) so that the donor runs on a larger or smaller image and
  yields the old grid. Baked into the weights; out of distribution for a tower that never saw that resolution. A donor without
  learned positions (a convolutional trunk) runs on that image as it is.
- `pooled`: one image token, the feature that the tower was trained to give (class token or mean of the patches after the last
  norm, or the output of its own head). It tells about the tower alone: from dozens of raw patch tokens a trained
  connector learns nearly as much of a random tower. It needs a hook at run time too.
"""

import math
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

TokenPolicy = Literal["native", "resize_features", "resize_posemb", "pooled"]
POLICIES: tuple[TokenPolicy, ...] = get_args(TokenPolicy)


def resize_grid(features: "Tensor", grid: int) -> "Tensor":
    """Resize patch features [B, side * side, width] bilinearly to another grid: [B, grid * grid, width]."""
    # inside functions, because listing the hosts needs neither torch nor transformers
    import torch

    resized = torch.nn.functional.interpolate(
        _as_image(features), size=(grid, grid), mode="bilinear", align_corners=False
    )
    return resized.flatten(2).transpose(1, 2)


def _as_image(tokens: "Tensor") -> "Tensor":
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} patch tokens do not form a square grid")
    return tokens.reshape(tokens.shape[0], side, side, -1).permute(0, 3, 1, 2)
