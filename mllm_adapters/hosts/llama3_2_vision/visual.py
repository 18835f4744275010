"""The module at `vision_model` in a graft of Llama 3.2 Vision: the donor, with states behind several of its blocks side by side."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.modules.grafted_tower import GraftedTower


class SideBySide(GraftedTower):
    """The donor on one tile an image. Towards the host's class it looks like the published tower.

    Args:
        spec: how to run the donor.
        deep: further states, each named by the number of blocks in front of it.
    """

    def __init__(self, spec: TowerSpec, deep: Sequence[int]) -> None:
        super().__init__(spec, as_one_tile)
        self._deep = list(deep)
        self.num_patches = spec.count  # by which the class widens its mask of tiles

    def features(self, pixels: Tensor) -> Tensor:
        """The state that is read and the deeper ones [B, spec.count, width of all], for pixels [B, 3, H, W]."""
        if not self._deep:
            return super().features(pixels)
        return torch.cat(self.states(pixels, [self.spec.layer, *self._deep]), dim=-1)


class ReplayedStates(nn.Module):
    """The module in the place of a frozen tower; it returns kept states [B, 1, tiles, tokens, width], which come as pixels."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.num_patches = tower.num_patches

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """The output of the published tower."""
        return BaseModelOutput(last_hidden_state=pixel_values)


def as_one_tile(tokens: Tensor) -> BaseModelOutput:
    """The output of the published tower for one image of one tile: tokens [B, count, width] as [B, 1, 1, count, width]."""
    return BaseModelOutput(last_hidden_state=tokens[:, None, None])
