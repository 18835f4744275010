"""Image encoders by name. Each is a model of `mgll.tower.model`, so each ends as a tower file that every host takes.

| name | what |
|---|---|
| `vit-base-16`, `vit-large-14`, `vit-huge-14` and smaller | CLIP's ViT of that size |
| `convnext-base`, `convnext-large` | timm's ConvNeXt |
| `open_clip:ViT-B-16` | the image tower of an open_clip model; names as `open_clip.list_models()` has them |
| `timm:convnext_base` | a timm trunk; names as `timm.list_models()` has them |
| `hf:FOLDER` | the vision model in a local folder of transformers, with its weights |

CLIP's ResNets (`open_clip:RN50`) come without their attention pooling, which leads into the space of the texts; pool by `mean`.
"""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from mgll.encoders.initialisation import initialise
from mgll.encoders.start_weights import load_start_weights, resized
from mgll.encoders.vision_configs import encoder_config
from mgll.tower.model import build_model, patch_size


def vision_encoder(name: str, image_size: int, start_weights: str | None = None, **options: Any) -> PreTrainedModel:
    """An image encoder with start weights from a file, or else with random weights; seed torch before the call.

    Args:
        name: a name as in the table of this module's docstring.
        image_size: side of its input in pixels.
        start_weights: a file or folder that `mgll.encoders.start_weights` reads.
        options: arguments of `CLIPVisionConfig` (`hidden_act`), or of the timm trunk (`drop_path_rate`), that replace those of the
            named encoder.

    Raises:
        FormatError: for weights that cannot be read.
        ValueError: for an unknown name or option, an image size that its patches do not tile, or weights of another model.
    """
    source, _, inside = name.partition(":")
    if source == "hf" and inside:
        # here, because safetensors takes a moment to import
        from mgll.encoders.transformers_folder import read_transformers

        if options:
            raise ValueError(f"the configuration of {name} lies in its folder; encoder options are for other encoders")
        model = resized(read_transformers(Path(inside)), image_size)
    else:
        model = build_model(encoder_config(name, image_size, options))
    if image_size % (patch := patch_size(model)):
        near = image_size - image_size % patch
        would_do = " or ".join(str(size) for size in (near, near + patch) if size)
        raise ValueError(
            f"encoder {name!r} has patches of {patch} px, which do not tile {image_size} px; {would_do} would do"
        )
    if start_weights is not None:
        load_start_weights(model, Path(start_weights))
    elif source != "hf":
        initialise(model)
    return model
