"""The configuration of a tower whose published file holds tensors only: read off their shapes, and the rest from the layout."""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mgll.published.layouts import Layout
from mgll.tower.config import TIMM

if TYPE_CHECKING:
    from torch import Tensor

Config = dict[str, Any]


def config_from_tensors(layout: Layout, tensors: "Mapping[str, Tensor]") -> tuple[Config, int]:
    """The tower's configuration, and the side in pixels of the images that it takes.

    Args:
        layout: layout of the file, with the caller's settings.
        tensors: the tower's tensors, under the names of a tower file.

    Raises:
        ValueError: if a tensor from which the shape is read is missing, or the caller has to give more settings.
    """
    read = {"clip": _clip, "timm_vit": _timm_vit, "radio": _timm_vit, "resnet": _resnet, "timm": _timm}[layout.kind]
    try:
        return read(layout, tensors)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing: no such tower, or another layout") from None


def _clip(layout: Layout, tensors: "Mapping[str, Tensor]") -> tuple[Config, int]:
    # here, because transformers takes seconds to import
    from mgll.encoders.vision_configs import clip_config

    width, _, patch, _ = tensors["embeddings.patch_embedding.weight"].shape
    size = _side(layout, len(tensors["embeddings.position_embedding.weight"]), patch)
    shape = {
        "hidden_size": width,
        "intermediate_size": len(tensors["encoder.layers.0.mlp.fc1.weight"]),
        "num_hidden_layers": _count(tensors, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": _heads(width, layout.head_width),
        "patch_size": patch,
        "hidden_act": layout.hidden_act,
    }
    return clip_config(size, shape), size


def _timm_vit(layout: Layout, tensors: "Mapping[str, Tensor]") -> tuple[Config, int]:
    width, _, patch, _ = tensors["timm_model.patch_embed.proj.weight"].shape
    size = _side(layout, tensors["timm_model.pos_embed"].shape[1], patch)
    inner = len(tensors["timm_model.blocks.0.mlp.fc1.weight"])
    arguments: Config = {
        "img_size": size,
        "patch_size": patch,
        "embed_dim": width,
        "depth": _count(tensors, r"timm_model\.blocks\.(\d+)\."),
        "num_heads": _heads(width, layout.head_width),
        "mlp_ratio": (inner + 0.5) / width if inner % width else inner // width,  # timm rounds the product down
    }
    if "timm_model.reg_token" in tensors:
        arguments["reg_tokens"] = tensors["timm_model.reg_token"].shape[1]
    if is_pooled_by_fc_norm(tensors):
        arguments["global_pool"] = "avg"
    return {"model_type": TIMM, "architecture": layout.architecture, "model_args": arguments}, size


def is_pooled_by_fc_norm(tensors: "Mapping[str, Tensor]") -> bool:
    """Whether a ViT of timm was fine-tuned to pool by the mean over patches, which then has a norm of its own."""
    return "timm_model.fc_norm.weight" in tensors


def _resnet(layout: Layout, tensors: "Mapping[str, Tensor]") -> tuple[Config, int]:
    if layout.size is None:
        raise ValueError("a ResNet takes images of any size: say which (size)")
    blocks = [_count(tensors, rf"timm_model\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)]
    return {"model_type": TIMM, "architecture": layout.architecture, "model_args": {"layers": blocks}}, layout.size


def _timm(layout: Layout, tensors: "Mapping[str, Tensor]") -> tuple[Config, int]:
    import timm

    from mgll.encoders.vision_configs import timm_config

    known = timm.get_pretrained_cfg(str(layout.architecture))
    size = known.input_size[-1] if known else layout.size or 0
    config = timm_config(str(layout.architecture), size, {})
    if not size:
        raise ValueError(f"timm does not say the size of the images of {layout.architecture}: say it (size)")
    return config, size


def _side(layout: Layout, positions: int, patch: int) -> int:
    """Side of the image in pixels; one of the positions may be the class token's.

    Patches need not fill the image: 27 patches of 14 px leave out the last 6 of 384 px.
    """
    grid = math.isqrt(positions)
    return layout.size if layout.size and layout.size // patch == grid else grid * patch


def _count(tensors: "Mapping[str, Tensor]", pattern: str) -> int:
    found = {int(match[1]) for name in tensors if (match := re.match(pattern, name))}
    if not found:
        raise KeyError(f"everything like {pattern}")
    return max(found) + 1


def _heads(width: int, head_width: int) -> int:
    if width % head_width:
        raise ValueError(f"heads of {head_width} channels do not divide {width} (head_width)")
    return width // head_width
