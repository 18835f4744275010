"""Processors of hosts that cut tiles (LLaVA-NeXT and its descendants): all tiles in a row, or one square for a graft."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BatchFeature
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches
from transformers.processing_utils import ImagesKwargs

from mllm_adapters.modules.square_images import FILE, SquareImages


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


def load_with_one_view(processor_class: Any, directory: Path) -> Any:
    """Load the stock processor of a directory, which gives all tiles of all images in a row: `pixel_values` [tiles, 3, H, W].

    The stock one pads each image with empty tiles up to the largest number in the batch, and so what one image becomes depends on
    the others. That of a graft makes one square of the photograph, by the donor's own preprocessing.
    """
    if (directory / FILE).is_file():
        processor = _of_graft(processor_class).from_pretrained(directory)
        processor.image_processor = OneView(**json.loads((directory / FILE).read_text(encoding="utf-8")))
        return processor
    return _in_a_row(processor_class).from_pretrained(directory)


def _of_graft(processor_class: Any) -> Any:
    class OfGraft(processor_class):  # type: ignore[misc]
        images_kwargs = ImagesKwargs()  # the stock class's would pad what the donor may not have padded

        def replace_image_token(self, *_: Any, **__: Any) -> str:
            return str(self.image_token) * int(self.image_processor.image_tokens)

    return OfGraft


def _in_a_row(processor_class: Any) -> Any:
    class InARow(processor_class):  # type: ignore[misc]
        def __call__(self, *arguments: Any, **options: Any) -> BatchFeature:
            found = super().__call__(*arguments, **options)
            tiles = found.get("pixel_values")
            if isinstance(tiles, torch.Tensor) and tiles.ndim == 5:
                places, side = self.image_processor.image_grid_pinpoints, tiles.shape[-1]
                counts = [image_size_to_num_patches(size, places, side) for size in found["image_sizes"]]
                found["pixel_values"] = torch.cat([own[:count] for own, count in zip(tiles, counts, strict=True)])
            return found

    return InARow
