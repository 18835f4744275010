"""The module at `visual` in a graft of Qwen3-VL: the donor, and mergers behind several of its blocks."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    BaseModelOutputWithDeepstackFeatures,
    Qwen3VLVisionPatchMerger,
)

from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.qwen2_vl.visual import GraftedVisual, in_blocks


class DeepVisual(GraftedVisual):
    """The donor behind a merger of its width, and mergers of states behind earlier blocks.

    Args:
        spec: how to run the donor; its grid divides by `merge`.
        merger: from tokens [count, spec.width] in blocks to features [count / merge ** 2, hidden].
        deep: such mergers, one for each of `blocks`.
        blocks: blocks of the donor, counted from 0.
        merge: side of a block of tokens.
    """

    def __init__(
        self, spec: TowerSpec, merger: nn.Module, deep: Sequence[nn.Module], blocks: Sequence[int], merge: int
    ) -> None:
        super().__init__(spec, merger, merge)
        self.deepstack_merger_list, self._layers = nn.ModuleList(deep), [block + 1 for block in blocks]

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithDeepstackFeatures:
        """The output of `visual` for pixels [B, 3, size, size]."""
        return merged(self, self.states_in_blocks(pixel_values))

    def states_in_blocks(self, pixels: Tensor) -> Tensor:
        """States that the mergers read, block by block: [count, 1 + deep ones, width]."""
        if self._layers:
            last, *deep = self.states(pixels, [self.spec.layer, *self._layers])
        else:  # one state, which may be the pooled feature
            last, deep = self.features(pixels), []
        return torch.stack([in_blocks(state, self.spatial_merge_size) for state in (last, *deep)], dim=1)


class ReplayedDeepVisual(nn.Module):
    """The mergers alone, which stand at `visual` while they are trained on kept states of the frozen tower."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.merger, self.deepstack_merger_list = visual.merger, visual.deepstack_merger_list
        self.spatial_merge_size, self.dtype = visual.spatial_merge_size, visual.dtype

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithDeepstackFeatures:
        """The output of `visual` for states [count, 1 + deep ones, width] that come in the place of pixels."""
        return merged(self, pixel_values)


def merged(visual: Any, states: Tensor) -> BaseModelOutputWithDeepstackFeatures:
    """What the language model is given, of states [count, 1 + deep ones, width] block by block."""
    last, *deep = (state.contiguous() for state in states.unbind(1))
    mergers = visual.deepstack_merger_list
    return BaseModelOutputWithDeepstackFeatures(
        last_hidden_state=last,
        pooler_output=visual.merger(last),
        deepstack_features=[merger(state) for merger, state in zip(mergers, deep, strict=True)],
    )


def deep_states(visual: Any, pixels: Tensor, grid: Tensor) -> Tensor:
    """States that the mergers read, from the published tower or a graft: [count, 1 + deep ones, width] for `grid` [images, 3]."""
    if isinstance(visual, DeepVisual):
        return visual.states_in_blocks(pixels)
    found = visual(pixels, grid_thw=grid, output_hidden_states=True)
    deep = [found.hidden_states[block + 1] for block in visual.deepstack_visual_indexes]
    return torch.stack([found.last_hidden_state, *deep], dim=1)


def build_deep_visual(spec: TowerSpec, vision: Any) -> DeepVisual:
    """The module for a donor, of the `vision_config` of a graft."""
    of_width = copy.deepcopy(vision)
    of_width.hidden_size = spec.width
    blocks = list(vision.deepstack_visual_indexes)
    deep = [Qwen3VLVisionPatchMerger(of_width, use_postshuffle_norm=True) for _ in blocks]
    return DeepVisual(spec, Qwen3VLVisionPatchMerger(of_width), deep, blocks, vision.spatial_merge_size)
