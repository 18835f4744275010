"""Image towers of open_clip and OpenAI's CLIP under the names of a tower file."""

import re
from collections.abc import Callable, Mapping, Sequence
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
#: Names in CLIP's ResNets -> names in timm. Their attention pooling is left out: like a projection, it leads to the texts.
_RESNET_NAMES = (
    (r"^(conv|bn)(\d)\.", r"stem.conv\2.\1."),
    (r"^layer(\d)\.(\d+)\.(conv|bn)([13])\.", r"stages.\1.\2.conv\4_1x1.\3."),
    (r"^layer(\d)\.(\d+)\.(conv|bn)2\.", r"stages.\1.\2.conv2_kxk.\3."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", r"stages.\1.\2.shortcut.conv.conv."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", r"stages.\1.\2.shortcut.conv.bn."),
    (r"^stages\.(\d)", lambda found: f"stages.{int(found[1]) - 1}"),
)


def tower_names(visual: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Rename the image tower of open_clip's and OpenAI's models as transformers names it.

    A ViT gets the names of `CLIPVisionModel`, a trunk of timm and a ResNet those of `TimmWrapperModel`. The projection of the
    pooled feature into the space of the texts is no part of a tower and is left out.

    Args:
        visual: the tensors of the image tower by their names without the prefix `visual.`.
    """
    if any(name.startswith("trunk.") for name in visual):
        return {
            f"timm_model.{name.removeprefix('trunk.')}": t for name, t in visual.items() if name.startswith("trunk.")
        }
    if is_resnet(visual):
        named = {_renamed(name, _RESNET_NAMES): t for name, t in visual.items() if not name.startswith("attnpool.")}
        return {f"timm_model.{name}": tensor for name, tensor in named.items()}
    found: dict[str, Tensor] = {}
    for name, tensor in visual.items():
        if name == "proj":
            continue
        name = _renamed(name, _NAMES)
        block, joined, kind = name.partition(".attn.in_proj_")
        if not joined:
            found[name] = tensor
            continue
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            found[f"{block}.self_attn.{letter}_proj.{kind}"] = part
    return found


def is_resnet(visual: "Mapping[str, Tensor]") -> bool:
    """Whether an image tower (tensors by their names without the prefix `visual.`) is one of CLIP's ResNets."""
    return "layer1.0.conv1.weight" in visual


def _renamed(name: str, names: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]) -> str:
    for old, new in names:
        name = re.sub(old, new, name)
    return name
