"""The processor of Idefics3 and SmolVLM: every tile as an image of its own, or one square for a graft."""

from pathlib import Path
from typing import Any

import torch
from transformers import BatchFeature, Idefics3Processor
from transformers.processing_utils import ImagesKwargs

from mllm_adapters.modules.square_images import SquareImages, load_with_squares


class TilesAlone(Idefics3Processor):
    """Gives all tiles of all images in a row: `pixel_values` [tiles, 1, 3, H, W] and `pixel_attention_mask` [tiles, 1, H, W].

    The stock one pads each image with empty tiles up to the largest number in the batch, so that images could not be joined later.
    The model takes both forms.
    """

    def __call__(self, *arguments: Any, **options: Any) -> BatchFeature:
        """The stock result with its tiles in a row; arguments are those of `Idefics3Processor`."""
        found = super().__call__(*arguments, **options)
        mask = found.get("pixel_attention_mask")
        if isinstance(mask, torch.Tensor):
            kept = mask.flatten(2).any(-1)
            for name in ("pixel_values", "pixel_attention_mask"):
                found[name] = found[name][kept][:, None]
        return found


class OneTile(SquareImages):
    """Makes one square of each photograph in the form of an image without tiles: `pixel_values` [B, 1, 3, size, size]."""

    model_input_names = ["pixel_values", "pixel_attention_mask"]  # noqa: RUF012 (transformers' own form)

    def __call__(self, images: Any, *arguments: Any, **options: Any) -> BatchFeature:  # type: ignore[override]
        """Make the square of each photograph; `images` is a list for each prompt."""
        found = super().__call__([image for own in images for image in own], *arguments, **options)
        pixels = torch.stack([torch.as_tensor(each) for each in found["pixel_values"]])
        found["pixel_values"] = pixels[:, None]
        found["pixel_attention_mask"] = torch.ones_like(pixels[:, :1], dtype=torch.int64)
        found["rows"] = found["cols"] = [[0]] * len(pixels)
        return found


class OfGraft(Idefics3Processor):
    """The stock processor without its own wishes about images."""

    images_kwargs = ImagesKwargs()


def load_processor(directory: Path) -> Any:
    """Load the processor of a directory. SmolVLM's own asks for a library that writes numbers of video frames in words."""
    return load_with_squares(TilesAlone, directory, OfGraft, OneTile)
