"""Where a tower looks: maps over the grid of an image's tokens or cells (the paper's Figures 4 and 6).

| map | what it shows | for |
|---|---|---|
| Grad-CAM | which places raise the score of a class (Selvaraju 2017, by captum) | every tower |
| attention rollout | which places the pooled feature was gathered from, block by block (Abnar and Zuidema 2020) | ViTs |
| text similarity | how near a place's own feature lies to the texts of a class | towers with a text side |
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from mgll.encoders.last_layers import layers_of
from mgll.tower.config import Pooling
from mgll.tower.model import grid_features, image_feature, is_vit, last_norm, prefix_tokens
from mgll.tower.text_side import TextSide

MapName = Literal["Grad-CAM", "attention rollout", "text similarity"]
GRAD_CAM: MapName = "Grad-CAM"
ROLLOUT: MapName = "attention rollout"
TEXT_SIMILARITY: MapName = "text similarity"
MAPS: tuple[MapName, ...] = (GRAD_CAM, ROLLOUT, TEXT_SIMILARITY)


class NoMapError(ValueError):
    """A tower of which this kind of map cannot be made; the message says why."""


@dataclass(frozen=True)
class TowerView:
    """A model as maps are made of it.

    Attributes:
        model: the tower's model in evaluation mode.
        pooling: which of its outputs is the feature.
        grid: patches or cells along a side of its input.
    """

    model: PreTrainedModel
    pooling: Pooling
    grid: int


def grad_cam(view: TowerView, pixels: Tensor, score: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Grad-CAM [B, grid, grid]: channels weighed by the mean gradient of the score, summed, and what is negative cut off.

    A class token looks at the grid for the last time in the last block; the map is made of the tokens that it sees there. A mean of
    the grid is one of tokens behind the last norm, and the map is then the classic class activation map. Of a convolutional trunk
    it is made of the last feature grid.

    Args:
        view: the tower.
        pixels: images, normalised as the tower's preprocessing says [B, 3, size, size].
        score: score [B] of pooled features [B, width].

    Raises:
        NoMapError: if captum is not installed, or the model has no such place.
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError:
        raise NoMapError("Grad-CAM needs captum: pip install 'mgll-graft[maps]'") from None
    place = nn.Identity()

    def scored(images: Tensor) -> Tensor:
        return score(image_feature(view.model, images, view.pooling))

    with _grid_through(view, place):
        found = LayerGradCam(scored, place).attribute(pixels.requires_grad_(), relu_attributions=True)
    return np.asarray(found[:, 0].detach().cpu().numpy())


def attention_rollout(view: TowerView, pixels: Tensor) -> np.ndarray:
    """Attention rollout [B, grid, grid]: the mean over heads, half of it the token itself, multiplied over all blocks.

    The row is that of the class token where the tower is pooled by it; else the mean over the grid, without the attention of a
    pooling head.

    Args:
        view: the tower.
        pixels: images, normalised as the tower's preprocessing says [B, 3, size, size].

    Raises:
        NoMapError: for a convolutional trunk, or one whose attention is limited to windows.
    """
    if not is_vit(view.model):
        raise NoMapError("no attention between all places: a convolutional trunk")
    rolled: Tensor | None = None
    for heads in _attention(view, pixels):
        mean = heads.mean(dim=1)
        step = (mean + torch.eye(mean.shape[-1], device=mean.device)) / 2
        rolled = step if rolled is None else step @ rolled
    if rolled is None:
        raise NoMapError("its blocks hand on no attention")
    prefix = prefix_tokens(view.model)
    row = rolled[:, 0] if view.pooling == "cls" else rolled[:, prefix:].mean(dim=1)
    return np.asarray(row[:, prefix:].unflatten(1, (view.grid, view.grid)).cpu().numpy())


@torch.no_grad()
def text_similarity(view: TowerView, pixels: Tensor, side: TextSide, texts: Tensor) -> np.ndarray:
    """Cosine [B, grid, grid] of every place, projected into the shared space as the pooled feature is, with the mean of some texts.

    Where the feature is the mean of the grid, its similarity is made of these. The grid of a tower that is pooled by its class
    token was not trained for this.

    Args:
        view: the tower.
        pixels: images, normalised as the tower's preprocessing says [B, 3, size, size].
        side: the tower's text side.
        texts: points of the texts in the shared space [texts, feature width].

    Raises:
        NoMapError: for a ViT that is pooled by a head, whose places are not features of the shared space.
    """
    if view.pooling == "head" and is_vit(view.model):
        raise NoMapError("its head makes the feature; a place alone is no point of the shared space")
    tokens = grid_features(view.model, pixels)
    points = side.image_features(tokens.flatten(0, 1))
    found = points @ normalize(texts.mean(dim=0), dim=0)
    return np.asarray(found.view(len(pixels), view.grid, view.grid).cpu().numpy())


@contextmanager
def _grid_through(view: TowerView, place: nn.Module) -> Iterator[None]:
    """Lead the grid that a Grad-CAM is made of through a module, as a map [B, width, grid, grid], while the block runs."""
    trunk, cells = getattr(view.model, "timm_model", None), view.grid**2

    def lead(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        if output.ndim == 4:  # a convolutional trunk
            last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"
            return place(output.movedim(3, 1)).movedim(1, 3) if last else place(output)
        if output.ndim != 3 or output.shape[1] < cells:
            return output  # CLIP norms its class token alone, too
        grid = output[:, -cells:].mT.unflatten(2, (view.grid, view.grid))
        return torch.cat([output[:, :-cells], place(grid).flatten(2).mT], dim=1)

    hook = _looked_at(view).register_forward_hook(lead)
    try:
        yield
    finally:
        hook.remove()


def _looked_at(view: TowerView) -> nn.Module:
    """The module whose output the Grad-CAM is made of."""
    trunk: Any = getattr(view.model, "timm_model", None)
    if not is_vit(view.model):
        return trunk.get_submodule(trunk.feature_info[-1]["module"])
    block = layers_of(view.model)[-1]
    if view.pooling == "cls":
        norms = [module for name, module in block.named_children() if "norm" in name]
        if not norms:
            raise NoMapError("its last block has no norm in front of its attention")
        return norms[0]
    norm = last_norm(view.model)
    return block if isinstance(norm, nn.Identity) or norm is getattr(trunk, "fc_norm", None) else norm


@torch.no_grad()
def _attention(view: TowerView, pixels: Tensor) -> list[Tensor]:
    """The attention of every block [B, heads, tokens, tokens], which fused kernels never hand on."""
    trunk: Any = getattr(view.model, "timm_model", None)
    if trunk is None:
        before = view.model.config._attn_implementation
        view.model.set_attn_implementation("eager")
        found = view.model(pixels, output_attentions=True).attentions
        view.model.set_attn_implementation(before)
        return list(found)
    seen: list[Tensor] = []
    places = [
        module for module in trunk.blocks.modules() if hasattr(module, "fused_attn") and hasattr(module, "attn_drop")
    ]
    fused = [module.fused_attn for module in places]
    hooks = [module.attn_drop.register_forward_hook(lambda _m, _i, output: seen.append(output)) for module in places]
    for module in places:
        module.fused_attn = False
    trunk.forward_features(pixels)
    for module, was, hook in zip(places, fused, hooks, strict=True):
        module.fused_attn = was
        hook.remove()
    return seen
