"""Image towers of open_clip and OpenAI's CLIP under the names of a tower file."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = (
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^ln_pre\.", "pre_layrnorm."),
    (r"^ln_post\.", "post_layernorm."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
)


def tower_names(visual: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """What lies below `visual.` in such a model, under the names of `CLIPVisionModel` or, of a timm trunk, `TimmWrapperModel`.

    The projection of the pooled feature into the space of the texts is no part of a tower and left out.
    """
    if any(name.startswith("trunk.") for name in visual):
        return {
            f"timm_model.{name.removeprefix('trunk.')}": t for name, t in visual.items() if name.startswith("trunk.")
        }
    found: dict[str, Tensor] = {}
    for name, tensor in visual.items():
        if name == "proj":
            continue
        for old, new in _NAMES:
            name = re.sub(old, new, name)
        block, joined, kind = name.partition(".attn.in_proj_")
        if not joined:
            found[name] = tensor
            continue
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            found[f"{block}.self_attn.{letter}_proj.{kind}"] = part
    return found
