"""A tower's preprocessing as settings of transformers' image processors."""

from collections.abc import Mapping
from typing import Any

from mgll.images.preprocessing import Preprocessing
from mllm_adapters.checkpoints.json_files import Json

#: Classes of transformers that do what `preprocessing_of` says: their names begin so.
_OF_SQUARES = ("LlavaImageProcessor", "CLIPImageProcessor", "SquareImages")


def image_processor_settings(preprocessing: Preprocessing) -> Json:
    """Settings of the `LlavaImageProcessor` that does this preprocessing, with the arithmetic of `mgll.images.preprocessing`."""
    size, square = preprocessing.size, {"height": preprocessing.size, "width": preprocessing.size}
    return {
        "image_processor_type": "LlavaImageProcessor",
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_resize": True,
        "resample": 3,
        "size": {"shortest_edge": size} if preprocessing.resize == "crop" else square,
        "do_center_crop": preprocessing.resize == "crop",
        "crop_size": square,
        "do_pad": preprocessing.resize == "pad",
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def preprocessing_of(settings: Json) -> Preprocessing:
    """The preprocessing that a `LlavaImageProcessor` of these settings does."""
    square = settings["crop_size"]
    return Preprocessing(
        size=square if isinstance(square, int) else square["height"],
        mean=tuple(settings["image_mean"]),
        std=tuple(settings["image_std"]),
        resize="pad" if settings.get("do_pad") else "crop" if settings["do_center_crop"] else "squash",
    )


def square_rule(image_processor: Any) -> Preprocessing | None:
    """The rule of an image processor that makes one square of every image; None of one whose tiles or sizes follow the image."""
    settings = image_processor.to_dict()
    kind = str(settings.get("image_processor_type", type(image_processor).__name__))
    if not kind.startswith(_OF_SQUARES) or (
        not settings.get("do_center_crop") and not _is_square(settings.get("size"))
    ):
        return None
    return preprocessing_of(settings)


def _is_square(size: Any) -> bool:
    return isinstance(size, Mapping) and {"height", "width"} <= size.keys() and size["height"] == size["width"]
