"""The donor's own preprocessing in processors whose image processor would cut tiles or pad in another colour."""

import json
from pathlib import Path
from typing import Any

from transformers import BatchFeature
from transformers.models.llava.image_processing_llava import LlavaImageProcessor
from transformers.processing_utils import ImagesKwargs

from mgll.images.preprocessing import Preprocessing
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.modules.image_processor import image_processor_settings

#: The donor's preprocessing; this file lies beside those of the stock processor, which stay as they are.
FILE = "square_images.json"


class TileSettings(ImagesKwargs, total=False):
    """Arguments about tiles that some processors pass to their image processor."""

    crop_to_patches: bool
    min_patches: int
    max_patches: int


class SquareImages(LlavaImageProcessor):
    """Makes one square of each photograph by the tower's own rule: `pixel_values` [B, 3, size, size].

    A processor that asks for tiles is given the one square, and `num_patches` says that there is one.
    """

    valid_kwargs = TileSettings

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        """Make `pixel_values`, and `num_patches` where tiles are asked for; arguments are those of `LlavaImageProcessor`."""
        asked = [kwargs.pop(name, None) for name in ("crop_to_patches", "min_patches", "max_patches")]
        found = super().__call__(images, *args, **kwargs)
        if any(asked):
            found["num_patches"] = [1] * len(found["pixel_values"])
        return found


def load_with_squares(
    processor_class: Any, directory: Path, of_graft: Any = None, squares: type[SquareImages] = SquareImages
) -> Any:
    """Load the processor of a directory; that of a graft does the donor's own preprocessing.

    Args:
        processor_class: class of the processor.
        directory: a checkpoint.
        of_graft: its class in a graft, where that is another.
        squares: what prepares the images of a graft.
    """
    if not (directory / FILE).is_file():
        return processor_class.from_pretrained(directory)
    processor = (of_graft or processor_class).from_pretrained(directory)
    processor.image_processor = squares(**json.loads((directory / FILE).read_text(encoding="utf-8")))
    return processor


def use_squares(files: dict[str, Json], preprocessing: Preprocessing, **settings: Any) -> None:
    """Write the donor's preprocessing into a directory's files, and change further settings of its processor."""
    files[FILE] = image_processor_settings(preprocessing)
    files.setdefault("processor_config.json", {}).update(settings)
