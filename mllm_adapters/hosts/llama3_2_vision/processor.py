"""The processor of Llama 3.2 Vision for one image a prompt, whole or in tiles."""

from pathlib import Path
from typing import Any

import torch
from transformers import BatchFeature, MllamaProcessor
from transformers.processing_utils import ImagesKwargs

from mllm_adapters.modules.square_images import SquareImages, load_with_squares


class OneImageEach(MllamaProcessor):
    """The stock processor for prompts of one image each, which writes the text's first token itself."""

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> BatchFeature:
        """Do what the stock class does, which takes a flat list for the images of one prompt, and lets that token stand twice."""
        nested = images and [image if isinstance(image, list | tuple) else [image] for image in images]
        return super().__call__(images=nested, text=text, **{"add_special_tokens": False, **options})


class OneTile(SquareImages):
    """Makes one square of each photograph: `pixel_values` [B, 3, size, size], and what says that it is the only tile."""

    model_input_names = ["pixel_values", "aspect_ratio_ids", "aspect_ratio_mask"]  # noqa: RUF012 (transformers' own form)
    max_image_tiles = 1

    def __call__(self, images: Any, *arguments: Any, **options: Any) -> BatchFeature:  # type: ignore[override]
        """Make the square of each photograph; `images` is a list for each prompt."""
        found = super().__call__([image for own in images for image in own], *arguments, **options)
        pixels = torch.stack([torch.as_tensor(each) for each in found["pixel_values"]])
        found["pixel_values"] = pixels
        found["aspect_ratio_ids"] = torch.ones(len(pixels), 1, dtype=torch.long)
        found["aspect_ratio_mask"] = torch.ones(len(pixels), 1, 1, dtype=torch.long)
        found["num_tiles"] = [[1] for _ in pixels]
        return found


class OfGraft(OneImageEach):
    """The processor of a graft, which has no wishes about tiles."""

    images_kwargs = ImagesKwargs()


def load_processor(directory: Path) -> Any:
    """Load the processor of a directory; that of a graft does the donor's own preprocessing."""
    return load_with_squares(OneImageEach, directory, OfGraft, OneTile)
