"""The module at `visual` in a graft of Qwen2-VL or Qwen2.5-VL, and the processor that feeds it.

The published tower reads flat patches of any image, two frames each, in blocks of 2 x 2. A graft is given the donor's own square
instead (`pixel_values` [B, 3, size, size]). Towards the language model it looks like the published one: `image_grid_thw` says how
the tokens lie, and they come block by block, merged.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BatchFeature
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.vision_utils import get_vision_window_index

from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.modules.grafted_tower import GraftedTower
from mllm_adapters.modules.square_images import FILE, SquareImages


class GraftedVisual(GraftedTower):
    """The donor behind a merger of its width.

    Args:
        spec: how to run the donor; its grid divides by `merge`.
        merger: from tokens [count, spec.width] in blocks to features [count / merge ** 2, hidden].
        merge: side of a block.
    """

    def __init__(self, spec: TowerSpec, merger: nn.Module, merge: int) -> None:
        super().__init__(spec, self._merged)
        self.merger, self.spatial_merge_size = merger, merge

    @property
    def dtype(self) -> torch.dtype:
        """The dtype to which the host casts pixels."""
        return next(self.donor.parameters()).dtype

    def _merged(self, tokens: Tensor) -> BaseModelOutputWithPooling:
        states = in_blocks(tokens, self.spatial_merge_size)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=self.merger(states))


class ReplayedVisual(nn.Module):
    """The merger alone, which stands at `visual` while it is trained on kept states of the frozen tower."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.merger, self.spatial_merge_size, self.dtype = visual.merger, visual.spatial_merge_size, visual.dtype

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """The output of `visual` for states [count, width], block by block, that come in the place of pixels."""
        return BaseModelOutputWithPooling(last_hidden_state=pixel_values, pooler_output=self.merger(pixel_values))


def in_blocks(tokens: Tensor, merge: int) -> Tensor:
    """Reorder tokens of a square grid [B, side ** 2, width] from row by row to block by block: [B * side ** 2, width].

    A single token fills a whole block.
    """
    if tokens.shape[1] == 1:
        return tokens.expand(-1, merge**2, -1).flatten(0, 1)
    side = round(tokens.shape[1] ** 0.5) // merge
    return tokens.unflatten(1, (side, merge, side, merge)).transpose(2, 3).flatten(0, 4)


def states_in_blocks(visual: Any, pixels: Tensor, grid: Tensor) -> Tensor:
    """States that the merger reads, from the published tower or a graft: [count, width] for `grid` [images, 3]."""
    states: Tensor = visual(pixels, grid_thw=grid).last_hidden_state
    if not hasattr(visual, "window_size"):
        return states
    # Qwen2.5-VL leaves them in the order of its attention windows, and puts the merged ones back in place afterwards
    merge = visual.spatial_merge_size
    order = get_vision_window_index(grid, merge, visual.window_size, visual.patch_size)[0]
    return states.unflatten(0, (-1, merge**2))[order.argsort()].flatten(0, 1)


class SquareGrids(SquareImages):
    """Makes one square of each photograph, and the grid on which its tokens lie: `image_grid_thw` [B, 3]."""

    model_input_names = ["pixel_values", "image_grid_thw"]  # noqa: RUF012 (transformers' own form)

    def __init__(self, grid: int, merge_size: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.grid, self.merge_size = grid, merge_size

    def __call__(self, images: Any, *arguments: Any, **options: Any) -> BatchFeature:  # type: ignore[override]
        """Make `pixel_values` [B, 3, size, size] and `image_grid_thw` [B, 3]; arguments are those of `LlavaImageProcessor`."""
        found = super().__call__(images, *arguments, **options)
        found["image_grid_thw"] = torch.tensor([[1, self.grid, self.grid]] * len(found["pixel_values"]))
        return found


def load_with_grids(processor_class: Any, directory: Path) -> Any:
    """Load the stock processor of a directory; that of a graft does the donor's own preprocessing."""
    processor = processor_class.from_pretrained(directory)
    if (directory / FILE).is_file():
        processor.image_processor = SquareGrids(**json.loads((directory / FILE).read_text(encoding="utf-8")))
    return processor
