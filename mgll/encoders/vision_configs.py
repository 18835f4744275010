"""Configurations of image encoders by name."""

from typing import Any

from transformers import CLIPVisionConfig

from mgll.encoders.names import CONVNEXTS, VITS, no_encoder, no_model
from mgll.plugins import load_plugin, plugins
from mgll.tower.config import CLIP, TIMM, at_size


def encoder_config(name: str, image_size: int, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """The tower configuration of an encoder that is known by name.

    Raises:
        ValueError: for an unknown name, or an open_clip tower that is neither a plain ViT, a ResNet of CLIP nor a timm trunk.
    """
    options, (source, _, inside) = options or {}, name.partition(":")
    if source == "timm" and inside:
        return timm_config(inside, image_size, options)
    if source == "open_clip" and inside:
        return open_clip_config(inside, image_size, options)
    if name in CONVNEXTS:
        return timm_config(CONVNEXTS[name], image_size, options)
    others = plugins("encoders", (*VITS, *CONVNEXTS))
    if name in others:
        return at_size(load_plugin(others[name])(image_size, options), image_size)
    if name not in VITS:
        raise ValueError(no_encoder(name, others))
    width, depth, heads, patch = VITS[name]
    shape = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "patch_size": patch}
    return clip_config(image_size, {"intermediate_size": 4 * width, **shape, **options})


def clip_config(image_size: int, shape: dict[str, Any]) -> dict[str, Any]:
    """The tower configuration of a CLIP ViT, without the projection. Its activation is GELU unless `shape` says otherwise.

    Raises:
        ValueError: for a setting that `CLIPVisionConfig` does not have; the class itself would ignore it.
    """
    if unknown := sorted(shape.keys() - CLIPVisionConfig().to_dict().keys()):
        raise ValueError(f"a ViT has no option {', '.join(unknown)}; it has what transformers' CLIPVisionConfig has")
    defaults = {
        "model_type": CLIP,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": shape["hidden_size"],
    }
    return {**defaults, "image_size": image_size, **shape}


def timm_config(architecture: str, image_size: int, options: dict[str, Any]) -> dict[str, Any]:
    """The tower configuration of a trunk of timm.

    Raises:
        ValueError: if timm has no model of that name.
    """
    # here, because timm takes seconds to import
    import timm

    if architecture not in timm.list_models():
        raise ValueError(no_model("timm", architecture, timm.list_models()))
    return at_size({"model_type": TIMM, "architecture": architecture, "model_args": dict(options)}, image_size)


def open_clip_config(model: str | dict[str, Any], image_size: int, options: dict[str, Any]) -> dict[str, Any]:
    """The tower configuration of an open_clip model's image side; `model` is its name or its configuration.

    Raises:
        ValueError: if open_clip has no model of that name, or the tower is neither a plain ViT, a ResNet of CLIP nor a timm trunk.
    """
    import open_clip

    found = open_clip.get_model_config(model) if isinstance(model, str) else model
    if found is None:
        raise ValueError(no_model("open_clip", str(model), open_clip.list_models()))
    vision = {key: value for key, value in found["vision_cfg"].items() if value not in (None, False, "")}
    if "timm_model_name" in vision:
        pool = found["vision_cfg"].get("timm_pool", "avg")
        if pool in ("abs_attn", "rot_attn"):
            raise ValueError(
                f"{model} pools by a layer of open_clip's own ({pool}); take its trunk, timm:{vision['timm_model_name']}"
            )
        return timm_config(vision["timm_model_name"], image_size, ({"global_pool": pool} if pool else {}) | options)
    if not isinstance(vision["layers"], int) and (*vision["layers"], vision["width"]) in _RESNETS:
        return timm_config(_RESNETS[*vision["layers"], vision["width"]], image_size, options)
    other = sorted(vision.keys() - _PLAIN)
    if other or not isinstance(vision["layers"], int):
        raise ValueError(
            f"the image tower of {model} is no plain CLIP ViT ({', '.join(other) or 'a ResNet of its own'})"
        )
    width = vision["width"]
    shape = {
        "hidden_size": width,
        "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
        "num_hidden_layers": vision["layers"],
        "num_attention_heads": width // vision.get("head_width", 64),
        "patch_size": vision.get("patch_size", 16),
        "hidden_act": "quick_gelu" if found.get("quick_gelu") else "gelu",
        "layer_norm_eps": (vision.get("norm_kwargs") or {}).get("eps", 1e-5),
    }
    return clip_config(image_size, shape | options)


#: The ResNets of CLIP by their blocks and width. timm has them without the attention pooling that leads to the texts.
_RESNETS = {
    (3, 4, 6, 3, 64): "resnet50_clip_gap",
    (3, 4, 23, 3, 64): "resnet101_clip_gap",
    (4, 6, 10, 6, 80): "resnet50x4_clip_gap",
    (6, 8, 18, 8, 96): "resnet50x16_clip_gap",
    (3, 15, 36, 10, 128): "resnet50x64_clip_gap",
}


#: Settings with which an open_clip ViT is still a `CLIPVisionModel`; all others change what is computed.
_PLAIN = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "patch_dropout", "output_tokens"}


_PLAIN |= {"norm_kwargs", "timm_pool", "timm_proj"}
