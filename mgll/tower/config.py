"""Which model a tower is and what shape its tokens have, without building it. Imports no torch.

The model is named as in the config.json of transformers, by `model_type` and the arguments of its configuration. The default is
`clip_vision_model`; `timm_wrapper` is any trunk of timm (`architecture`, `model_args`); `mgll.tower.model` lists the others.
"""

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from mgll.formats import Row

CLIP, TIMM = "clip_vision_model", "timm_wrapper"

#: What `CLIPVisionConfig` assumes where nothing is said. Written out, because importing the class takes seconds.
CLIP_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "initializer_factor": 1.0,
}

Pooling = Literal["cls", "mean", "head"]


class Geometry(Row):
    """The input and the tokens of a tower.

    Attributes:
        size: height and width of the input in pixels.
        stride: pixels along the side of a patch, or of a cell of a convolutional trunk's last feature grid.
        grid: patches or cells along a side.
        width: channels of a token.
        prefix: tokens in front of the grid: 0, 1 (a class token), or more (a class token and registers).
        class_token: whether the first token in front of the grid is a class token.
        depth: hidden states that can be handed on, counted from -1, the last, to -depth. A convolutional trunk has only its last.
    """

    size: int = Field(gt=0)
    stride: int = Field(gt=0)
    grid: int = Field(ge=0)
    width: int = Field(gt=0)
    prefix: int = Field(ge=0)
    class_token: bool
    depth: int = Field(gt=0)


class Architecture(Row):
    """A tower without its weights.

    Attributes:
        config: `model_type`, and the arguments of that model's configuration in transformers, the activation among them.
        measured: the geometry that the tower was measured to have; None for a CLIP tower, whose configuration determines it.
    """

    config: dict[str, Any]
    measured: Geometry | None = None

    @model_validator(mode="after")
    def _is_described(self) -> "Architecture":
        if self.measured is None and self.kind != CLIP:
            raise ValueError(f"a {self.kind} tower needs `measured`, the geometry of its tokens")
        if self.kind == CLIP:
            _check_counts(CLIP_DEFAULTS | self.config)
        return self

    @property
    def kind(self) -> str:
        """The `model_type` of transformers."""
        return str(self.config.get("model_type", CLIP))

    @property
    def geometry(self) -> Geometry:
        """The input and the tokens of the tower: as measured, or computed from the configuration of a CLIP tower."""
        return self.measured or clip_geometry(self.config)


def _check_counts(vision: dict[str, Any]) -> None:
    for name, default in CLIP_DEFAULTS.items():
        if isinstance(default, int) and (type(vision[name]) is not int or vision[name] < 1):
            raise ValueError(f"{name} must be a whole number above 0, found {vision[name]!r:.40}")


def clip_geometry(config: dict[str, Any]) -> Geometry:
    """The input and the tokens of a `CLIPVisionModel` of this configuration."""
    vision = CLIP_DEFAULTS | config
    return Geometry(
        size=vision["image_size"],
        stride=vision["patch_size"],
        grid=vision["image_size"] // vision["patch_size"],
        width=vision["hidden_size"],
        prefix=1,
        class_token=True,
        depth=vision["num_hidden_layers"],
    )


def layer_count(config: dict[str, Any]) -> int:
    """The largest number of layers that a configuration or a part of it names: a model of millions would take hours to build."""
    found = [0]
    for key, value in config.items():
        if isinstance(value, dict):
            found.append(layer_count(value))
        elif re.fullmatch(r"(num_.*)?layers|(.*_)?depths?", str(key)):
            found += [n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)]
    return max(found)


def at_size(config: dict[str, Any], size: int) -> dict[str, Any]:
    """The configuration of the same model for images of another size in pixels.

    A trunk of timm that takes images of any size has the same configuration for all.
    """
    if config.get("model_type", CLIP) != TIMM:
        return {**config, "image_size": size}
    import timm

    known = timm.get_pretrained_cfg(config["architecture"])
    if not (known and known.fixed_input_size):
        return dict(config)
    return {**config, "model_args": {**(config.get("model_args") or {}), "img_size": size}}
