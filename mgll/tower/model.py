"""The models that a tower can be, behind one interface: the tokens of a hidden state, and the pooled feature.

All are classes of transformers: plain ViTs with a class token, with registers or with neither, and `TimmWrapperModel`, which holds
any trunk of timm. A reader of somebody's checkpoint has done its work when one of these holds the weights: `mgll.tower.save_tower`
writes it, and every host takes it.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from mgll.formats import one_line
from mgll.tower.config import CLIP, TIMM, Geometry, Pooling
from mgll.weights.unbuildable import UNBUILDABLE


@dataclass(frozen=True)
class PlainViT:
    """A ViT of transformers whose hidden states end before the norm behind its last block.

    Attributes:
        norm: attribute name of the norm behind the last block.
        prefix: number of tokens before the grid, not counting registers, whose number the configuration gives.
    """

    norm: str
    prefix: int


#: The plain ViTs that a tower can be, by `model_type`.
PLAIN_VITS = {
    CLIP: PlainViT("post_layernorm", 1),
    "siglip_vision_model": PlainViT("post_layernorm", 0),
    "vit": PlainViT("layernorm", 1),
    "deit": PlainViT("layernorm", 2),
    "vit_msn": PlainViT("layernorm", 1),
    "ijepa": PlainViT("layernorm", 0),
    "dinov2": PlainViT("layernorm", 1),
    "dinov2_with_registers": PlainViT("layernorm", 1),
    "dinov3_vit": PlainViT("norm", 1),
    "aimv2_vision_model": PlainViT("rms_norm", 0),
}
#: What transformers raises besides where files of a model cannot be read.
UNREADABLE: tuple[type[Exception], ...] = (*UNBUILDABLE, OSError, SafetensorError)
#: Models that are built without their pooler, a layer with tanh: most checkpoints lack it.
_WITHOUT_POOLER = ("vit", "deit", "ijepa")
#: Arguments that a tower file may not give to `timm.create_model`, because they read other files or change what the model returns.
_FORBIDDEN = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "features_only")
#: Entries of a configuration of transformers that do not matter for building the model.
_ASIDE = {"architectures", "dtype", "id2label", "label2id", "num_classes", "label_names", "num_labels", "do_pooling"}
_ASIDE |= {"stage_names", "out_features", "out_indices", "reshape_hidden_states"}


def build_model(config: dict[str, Any]) -> PreTrainedModel:
    """The model of a tower's configuration, with random weights.

    Raises:
        ValueError: for a `model_type` that is neither in `PLAIN_VITS` nor timm's, or arguments that its class does not take.
    """
    # here, because transformers takes seconds to import
    from transformers import MODEL_MAPPING, AutoConfig

    kind = str(config.get("model_type", CLIP))
    if kind != TIMM and kind not in PLAIN_VITS:
        raise ValueError(f"a tower cannot be a {kind!r}; known: {', '.join([*PLAIN_VITS, TIMM])}")
    arguments = {key: value for key, value in config.items() if key != "model_type"}
    if kind == TIMM:
        _check_timm(arguments)
    try:
        settings = AutoConfig.for_model(kind, **arguments)
        kind_of_model: Any = MODEL_MAPPING[type(settings)]
        model: PreTrainedModel = kind_of_model(settings, **build_options(kind))
    except KeyError as error:
        raise ValueError(f"no {kind} can be built of this configuration: {error} is not known") from error
    except UNBUILDABLE as error:
        raise ValueError(f"no {kind} can be built of this configuration: {said_by(error)}") from error
    return model


def said_by(error: BaseException) -> str:
    """What an error of torch or transformers says, in one line and without a stack of C++."""
    return one_line(str(error).partition("Exception raised")[0])[:400]


def build_options(kind: str) -> dict[str, Any]:
    """Keyword arguments that the model class of a `model_type` gets in addition to its configuration."""
    return {"add_pooling_layer": False} if kind in _WITHOUT_POOLER else {}


def _check_timm(arguments: dict[str, Any]) -> None:
    if ":" in str(arguments.get("architecture", ":")):
        raise ValueError(f"architecture {arguments.get('architecture')!r} is not the name of a model in timm")
    if not isinstance(inner := arguments.get("model_args") or {}, dict):
        raise ValueError(f"model_args of a tower are named, found {inner!r:.40}")
    if wrong := sorted(set(_FORBIDDEN) & inner.keys()):
        raise ValueError(f"model_args of a tower may not hold {', '.join(wrong)}")


def config_of(model: PreTrainedModel) -> dict[str, Any]:
    """The configuration from which `build_model` builds the same model again, without its weights."""
    found = model.config.to_diff_dict()
    return {
        key: value for key, value in found.items() if not key.startswith(("_", "transformers")) and key not in _ASIDE
    }


@torch.no_grad()
def measure(model: PreTrainedModel, size: int) -> Geometry:
    """The tokens that a model makes of an image of `size` x `size` pixels, found by giving it a black one.

    Raises:
        ValueError: if the model does not take such an image, or its tokens form no square grid.
    """
    training = model.training
    try:
        tokens = hidden_state(model.eval(), _black(model, size))
    except (RuntimeError, AssertionError, IndexError, TypeError) as error:
        trunk = _trunk(model)
        tried = "" if trunk is None else f"; try a multiple of {trunk.feature_info[-1]['reduction']} px"
        raise ValueError(f"{_name(model)} does not take an RGB image of {size} px: {error}{tried}") from error
    finally:
        model.train(training)
    trunk, config, prefix = _trunk(model), model.config, prefix_tokens(model)
    stride = patch_size(model) if trunk is None or _is_vit(trunk) else trunk.feature_info[-1]["reduction"]
    depth = config.num_hidden_layers if trunk is None else len(trunk.feature_info) if _is_vit(trunk) else 1
    grid = math.isqrt(tokens.shape[1] - prefix)
    if grid**2 != tokens.shape[1] - prefix:
        raise ValueError(
            f"{tokens.shape[1]} tokens of {_name(model)}, less {prefix} in front of the grid, form no square grid"
        )
    return Geometry(
        size=size,
        stride=stride,
        grid=grid,
        width=tokens.shape[2],
        prefix=prefix,
        class_token=prefix > 0 and (trunk is None or getattr(trunk, "cls_token", None) is not None),
        depth=depth,
    )


def hidden_state(model: PreTrainedModel, pixels: Tensor, layer: int = -1) -> Tensor:
    """Tokens behind a block, before the last norm: [B, prefix + grid ** 2, width] of pixels [B, 3, size, size].

    Args:
        model: the tower's model.
        pixels: images, normalised as the tower's preprocessing says.
        layer: -1 is the last block. A convolutional trunk has only this one: its last feature grid, row by row.

    Raises:
        IndexError: if there is no such hidden state.
    """
    return hidden_states(model, pixels, [layer])[0]


def hidden_states(model: PreTrainedModel, pixels: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """Tokens behind several blocks, in the order asked for, of one forward pass; otherwise as `hidden_state`."""
    trunk = _trunk(model)
    if trunk is None:
        states = model(pixels, output_hidden_states=list(layers)).hidden_states
        return [states[layer] for layer in layers]
    if _is_vit(trunk):
        blocks = [layer - 1 if layer > 0 else len(trunk.feature_info) + layer for layer in layers]
        asked = sorted(set(blocks))
        found = trunk.forward_intermediates(
            pixels, asked, return_prefix_tokens=True, stop_early=True, output_fmt="NLC", intermediates_only=True
        )
        # timm puts the grid first
        tokens = [each if isinstance(each, Tensor) else torch.cat(each[::-1], dim=1) for each in found]
        return [tokens[asked.index(block)] for block in blocks]
    if any(layer not in (-1, 1) for layer in layers):
        raise IndexError(f"a convolutional trunk hands on its last feature grid only, not layer {layers[0]}")
    features: Tensor = trunk.forward_features(pixels)
    if features.ndim != 4:
        raise IndexError(f"the features of {_name(model)} have {features.ndim} dimensions, those of a grid have 4")
    cells = features.flatten(1, 2) if getattr(trunk, "output_fmt", "NCHW") == "NHWC" else features.flatten(2).mT
    return [cells] * len(layers)


def prefix_tokens(model: PreTrainedModel) -> int:
    """How many tokens lie before the grid: class token and registers."""
    trunk = _trunk(model)
    if trunk is None:
        return PLAIN_VITS[model.config.model_type].prefix + getattr(model.config, "num_register_tokens", 0)
    return int(trunk.num_prefix_tokens) if _is_vit(trunk) else 0


def patch_size(model: PreTrainedModel) -> int:
    """Side of a ViT's patches in pixels; 1 for a convolutional trunk.

    A ViT ignores the pixels at the border that do not fill a patch; a convolutional trunk takes images of any size.
    """
    trunk = _trunk(model)
    if trunk is None:
        return int(model.config.patch_size)
    return int(trunk.feature_info[-1]["reduction"]) if _is_vit(trunk) else 1


def last_norm(model: PreTrainedModel) -> nn.Module:
    """The norm behind the last block, or in front of a timm trunk's classifier; an `nn.Identity` if the model has neither."""
    trunk = _trunk(model)
    if trunk is None:
        return getattr(model, PLAIN_VITS[model.config.model_type].norm)
    places = ("norm", "fc_norm") if _is_vit(trunk) else ("head.norm",)
    named = dict(trunk.named_modules())
    found = [named[place] for place in places if place in named and not isinstance(named[place], nn.Identity)]
    return found[0] if found else nn.Identity()


def normed(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Apply the model's last norm to tokens [B, count, width]."""
    norm = last_norm(model)
    if type(norm).__name__.endswith("2d"):  # timm's norms over the channels of [B, width, H, W]
        return norm(tokens.mT[..., None])[..., 0].mT
    return norm(tokens)


def image_feature(model: PreTrainedModel, pixels: Tensor, pooling: Pooling) -> Tensor:
    """The image feature of pixels [B, 3, size, size]: [B, width], not normalised.

    Args:
        model: the tower's model.
        pixels: images, normalised as the tower's preprocessing says.
        pooling: `cls` (class token) or `mean` (of patches or cells), both behind the last norm; or `head`, what the model's own
            head makes of its tokens (SigLIP's attention pooling, ConvNeXt's mean and norm).

    Raises:
        ValueError: if the model has no such output.
    """
    trunk = _trunk(model)
    if pooling == "head":
        if trunk is not None:
            return trunk.forward_head(trunk.forward_features(pixels), pre_logits=True)
        feature = getattr(model(pixels), "pooler_output", None)
        if feature is None:
            raise ValueError(f"{_name(model)} has no pooling head; choose cls or mean")
        return feature
    tokens, prefix = hidden_state(model, pixels), prefix_tokens(model)
    return normed(model, tokens[:, :1] if pooling == "cls" else tokens[:, prefix:]).mean(dim=1)


def grid_features(model: PreTrainedModel, pixels: Tensor) -> Tensor:
    """The patches or cells behind the last norm, row by row: [B, grid ** 2, width] of pixels [B, 3, size, size]."""
    return normed(model, hidden_state(model, pixels)[:, prefix_tokens(model) :])


@torch.no_grad()
def check_pooling(model: PreTrainedModel, geometry: Geometry, pooling: Pooling) -> None:
    """Raise `ValueError` unless the model has the output that `pooling` names, with as many channels as its tokens."""
    if pooling == "cls" and not geometry.class_token:
        raise ValueError(f"{_name(model)} has no class token to pool by; choose mean or head")
    if pooling != "head":
        return
    training = model.training
    feature = image_feature(model.eval(), _black(model, geometry.size), "head")
    model.train(training)
    if feature.shape != (1, geometry.width):
        raise ValueError(
            f"the head of {_name(model)} gives {tuple(feature.shape[1:])} channels, its tokens have {geometry.width};"
            " choose mean"
        )


def freeze_unused(model: PreTrainedModel, size: int, pooling: Pooling) -> None:
    """Switch training off for parameters on which the pooled feature does not depend, such as an unused head.

    These parameters would never get a gradient, and the processes of a distributed run would wait for it.
    """
    training = model.training
    feature = image_feature(model.eval(), _black(model, size), pooling)
    model.train(training)
    used, seen, ahead = set(), set(), [feature.grad_fn]
    while ahead:  # back along the graph, without a gradient
        node: Any = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        used.add(id(getattr(node, "variable", None)))
        ahead += [before for before, _ in node.next_functions]
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in used)


def _trunk(model: PreTrainedModel) -> Any:
    """The timm model inside a `TimmWrapperModel`; None for one of transformers' own models."""
    return getattr(model, "timm_model", None)


def is_vit(model: PreTrainedModel) -> bool:
    """Whether a tower is a stack of blocks over tokens that all attend to each other; a convolutional trunk is none."""
    trunk = _trunk(model)
    return trunk is None or _is_vit(trunk)


def _is_vit(trunk: Any) -> bool:
    """Whether a trunk of timm is a ViT: a stack of blocks over tokens that can hand on its tokens behind any of them."""
    takes = inspect.signature(trunk.forward_intermediates).parameters
    return hasattr(trunk, "num_prefix_tokens") and "return_prefix_tokens" in takes


def _black(model: PreTrainedModel, size: int) -> Tensor:
    parameter = next(model.parameters())
    return torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)


def _name(model: PreTrainedModel) -> str:
    return str(getattr(model.config, "architecture", None) or model.config.model_type)
