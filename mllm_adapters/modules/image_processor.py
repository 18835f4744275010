"""A tower's preprocessing as settings of transformers' image processors."""

from mgll.images.preprocessing import Preprocessing
from mllm_adapters.checkpoints.json_files import Json


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
