"""The donor inside a host whose own class cannot hold it: renormalised pixels in, tokens under the token policy out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from mgll import tower as tower_file
from mllm_adapters.token_policy import resize_grid
from mllm_adapters.tower_spec import TowerSpec


class GraftedTower(nn.Module):
    """Stands where the host's tower stood. Its weights are the donor's, named `donor.*` and the `CLIPVisionModel` name.

    Args:
        spec: how to run the donor.
        hand_on: from tokens [B, spec.count, spec.width] to the output object that the host's code reads.
    """

    def __init__(self, spec: TowerSpec, hand_on: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.spec, self._hand_on = spec, hand_on
        self.donor = CLIPVisionModel(CLIPVisionConfig(**spec.config))

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """What the host's code expects of its own tower, for pixels [B, 3, H, W]."""
        return self._hand_on(self.features(pixel_values))

    def features(self, pixels: Tensor) -> Tensor:
        """Tokens [B, spec.count, spec.width] of pixels [B, 3, H, W] of any size, normalised as the host does it."""
        spec, dtype = self.spec, pixels.dtype
        pixels = pixels.float()  # half precision would coarsen the pixels, and CPUs cannot resize in it
        if spec.scale is not None and spec.shift is not None:
            scale, shift = (pixels.new_tensor(values).view(3, 1, 1) for values in (spec.scale, spec.shift))
            pixels = pixels * scale + shift
        if pixels.shape[-2:] != (spec.size, spec.size):
            pixels = nn.functional.interpolate(
                pixels, (spec.size, spec.size), mode="bicubic", antialias=True, align_corners=False
            )
        output = self.donor(pixels.to(dtype), output_hidden_states=True)
        if spec.tokens == "pooled":
            return tower_file.pool(output.last_hidden_state, self.donor, spec.pooling)[:, None]
        state = output.hidden_states[spec.layer]
        if spec.post_norm:
            state = self.donor.post_layernorm(state)
        patches = state[:, 1:]
        if patches.shape[1] != spec.grid**2:
            patches = resize_grid(patches, spec.grid)
        return torch.cat((state[:, :1], patches), dim=1) if spec.class_token else patches


class Replay(nn.Module):
    """Stands where the frozen tower stood and hands on features that it made earlier.

    Args:
        hand_on: from those features to the output object that the host's code reads.
    """

    def __init__(self, hand_on: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._hand_on = hand_on

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The output for features that come in the place of pixels."""
        return self._hand_on(pixel_values)
