"""Processors of hosts that cut tiles (LLaVA-NeXT and its descendants): all tiles in a row, or one square for a graft."""

from typing import Any

import torch
from transformers import BatchFeature, LlavaNextProcessor, LlavaOnevisionProcessor
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches
from transformers.processing_utils import ImagesKwargs

from mllm_adapters.modules.square_images import SquareImages


class OneView(SquareImages):
    """Makes one square of each photograph, and its size as models with tiles ask for it: `image_sizes` [B, 2]."""

    model_input_names = ["pixel_values", "image_sizes"]  # noqa: RUF012 (transformers' own form)

    def __init__(self, image_tokens: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.image_tokens = image_tokens

    def __call__(self, images: Any, *arguments: Any, **options: Any) -> BatchFeature:  # type: ignore[override]
        """Make `pixel_values` [B, 3, size, size] and `image_sizes` [B, 2]; arguments are those of `LlavaImageProcessor`."""
        found = super().__call__(images, *arguments, **options)
        found["image_sizes"] = torch.tensor([list(pixels.shape[-2:]) for pixels in found["pixel_values"]])
        return found


class OfGraft:
    """A processor with `OneView`: as many image tokens as a graft hands on."""

    images_kwargs = ImagesKwargs()  # the stock class's would pad what the donor may not have padded
    image_token: str
    image_processor: Any

    def replace_image_token(self, *_: Any, **__: Any) -> str:
        """Write the image tokens of one photograph."""
        return self.image_token * int(self.image_processor.image_tokens)


class InARow:
    """A processor that gives all tiles of all images in a row: `pixel_values` [tiles, 3, H, W].

    The stock one pads each image with empty tiles up to the largest number in the batch, and so what one image becomes depends on
    the others.
    """

    image_processor: Any

    def __call__(self, *arguments: Any, **options: Any) -> BatchFeature:
        """Do what the stock processor does, without its empty tiles."""
        found: BatchFeature = super().__call__(*arguments, **options)  # type: ignore[misc]
        tiles = found.get("pixel_values")
        if isinstance(tiles, torch.Tensor) and tiles.ndim == 5:
            places, side = self.image_processor.image_grid_pinpoints, tiles.shape[-1]
            counts = [image_size_to_num_patches(size, places, side) for size in found["image_sizes"]]
            found["pixel_values"] = torch.cat([own[:count] for own, count in zip(tiles, counts, strict=True)])
        return found


class LlavaNextInARow(InARow, LlavaNextProcessor):
    """LLaVA-NeXT's processor without empty tiles."""


class LlavaNextOfGraft(OfGraft, LlavaNextProcessor):
    """LLaVA-NeXT's processor with one view."""


class LlavaOnevisionInARow(InARow, LlavaOnevisionProcessor):
    """LLaVA-OneVision's processor without empty tiles."""


class LlavaOnevisionOfGraft(OfGraft, LlavaOnevisionProcessor):
    """LLaVA-OneVision's processor with one view."""
