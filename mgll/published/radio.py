"""C-RADIO 3 and 4 of NVIDIA under the names of timm's ViT, which holds it.

Their file keeps a table of positions for images of 2048 px and interpolates it at every image; here this is done once, for the
size of the tower. A token for each teacher comes first, then registers: timm's class token is the first teacher's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgll.published.layouts import Layout

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """One of the published sizes.

    Attributes:
        architecture: its name in timm.
        head_width: channels of an attention head.
        corners: whether the code beside the weights aligns the corners when it interpolates positions, as timm states it.
    """

    architecture: str
    head_width: int = 64
    corners: bool = False


#: By width, and by number of tokens in front of the grid.
KINDS = {
    (768, 8): Kind("vit_base_patch16_radio_v3", corners=True),
    (1024, 8): Kind("vit_large_patch16_radio_v3"),
    (1280, 8): Kind("vit_huge_patch16_radio_v3", 80, corners=True),
    (1536, 8): Kind("vit_giant_patch16_radio_v3"),
    (1152, 10): Kind("vit_so400m_patch16_radio_v4", 72),
    (1280, 10): Kind("vit_huge_patch16_radio_v4", 80),
}


def kind_of(layout: Layout, tensors: "Mapping[str, Tensor]") -> Kind:
    """Which of them a file holds, by the architecture that was named or by its shapes.

    Args:
        layout: the layout with the caller's settings.
        tensors: the file's tensors without their prefix.

    Raises:
        ValueError: if it is none of them.
    """
    if "patch_generator.cls_token.token" not in tensors:
        raise ValueError("patch_generator.cls_token.token is missing: no C-RADIO 3 or 4")
    tokens, width = tensors["patch_generator.cls_token.token"].shape
    named = [kind for kind in KINDS.values() if kind.architecture == layout.architecture]
    found = named[0] if named else KINDS.get((width, tokens))
    if found is None:
        raise ValueError(
            f"{width} channels and {tokens} tokens in front of the grid are no C-RADIO 3 or 4 that timm has; its kinds:"
            f" {', '.join(kind.architecture for kind in KINDS.values())} (architecture)"
        )
    return found


def under_timms_names(layout: Layout, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The tensors of timm's model for images of `layout.size`, of those of the file without their prefix.

    Raises:
        ValueError: if they are not those of a C-RADIO 3 or 4.
    """
    # here, because torch takes seconds to import
    import torch

    kind, found = kind_of(layout, tensors), {}
    missing = {"patch_generator.embedder.weight", "patch_generator.pos_embed"} - tensors.keys()
    if missing:
        raise ValueError(f"{' and '.join(sorted(missing))} is missing: no C-RADIO 3 or 4")
    patch = math.isqrt(tensors["patch_generator.embedder.weight"].shape[1] // 3)
    grid = (layout.size or 512) // patch
    for name, tensor in tensors.items():
        if name == "patch_generator.embedder.weight":
            found["patch_embed.proj.weight"] = tensor.unflatten(1, (3, patch, patch))
            found["patch_embed.proj.bias"] = torch.zeros(len(tensor))
        elif name == "patch_generator.cls_token.token":
            found["cls_token"], found["reg_token"] = tensor[None, :1], tensor[None, 1:]
        elif not name.startswith("patch_generator."):
            found[name.replace(".grandma", ".gamma")] = (
                tensor  # loaders that know LayerScale would rename what ends in gamma
            )
    table = tensors["patch_generator.pos_embed"]
    side = math.isqrt(table.shape[1])
    image = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    at_size = torch.nn.functional.interpolate(image, (grid, grid), mode="bilinear", align_corners=kind.corners)
    return found | {"pos_embed": at_size.flatten(2).mT}
