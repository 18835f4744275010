"""What the donor was trained on, in processors whose own image processor would cut tiles or pad in another colour."""

import json
from pathlib import Path
from typing import Any

from transformers import BatchFeature
from transformers.models.llava.image_processing_llava import LlavaImageProcessor
from transformers.processing_utils import ImagesKwargs

from mgll.images.preprocessing import Preprocessing
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.modules.image_processor import image_processor_settings

#: Lies beside the stock processor's files, which stay as they are.
FILE = "square_images.json"


class TileSettings(ImagesKwargs, total=False):
    """What some processors tell their image processor about tiles."""

    crop_to_patches: bool
    min_patches: int
    max_patches: int


class SquareImages(LlavaImageProcessor):
    """One square a photograph, by the tower's own rule: `pixel_values` [B, 3, size, size].

    Asked for tiles, it gives the one square nevertheless, and says that it is one (`num_patches`).
    """

    valid_kwargs = TileSettings

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        """As `LlavaImageProcessor`."""
        asked = [kwargs.pop(name, None) for name in ("crop_to_patches", "min_patches", "max_patches")]
        found = super().__call__(images, *args, **kwargs)
        if any(asked):
            found["num_patches"] = [1] * len(found["pixel_values"])
        return found


def load_with_squares(processor_class: Any, directory: Path) -> Any:
    """The stock processor of a directory; of a graft, with the donor's own preprocessing in it."""
    processor = processor_class.from_pretrained(directory)
    if (directory / FILE).is_file():
        processor.image_processor = SquareImages(**json.loads((directory / FILE).read_text(encoding="utf-8")))
    return processor


def use_squares(files: dict[str, Json], preprocessing: Preprocessing, **settings: Any) -> None:
    """Have a directory's processor make the pixels of a tower's preprocessing, and change further settings of it."""
    files[FILE] = image_processor_settings(preprocessing)
    files.setdefault("processor_config.json", {}).update(settings)
