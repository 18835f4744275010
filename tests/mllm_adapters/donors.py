"""Tiny donors of every shape, random weights; all hand on a grid of 4 x 4, as the tiny hosts' own towers do."""

from pathlib import Path

import torch
from torch import nn

from mgll.images.preprocessing import Preprocessing
from mgll.tower.file import save_tower
from mgll.tower.model import build_model

VIT = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TIMM_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}


def timm(architecture: str, **model_args: object) -> dict[str, object]:
    return {"model_type": "timm_wrapper", "architecture": architecture, "model_args": model_args}


#: name -> configuration, size of the image, pooling
DONORS: dict[str, tuple[dict[str, object], int, str]] = {
    "siglip": ({"model_type": "siglip_vision_model", **VIT}, 32, "head"),
    "convnext": (timm("convnext_atto", **CONVNEXT), 128, "head"),
    "registers": ({"model_type": "dinov2_with_registers", **VIT}, 32, "cls"),
    "vit": ({"model_type": "vit", **VIT}, 32, "cls"),
    "timm-average": (timm("vit_base_patch16_siglip_gap_224", **TIMM_VIT), 32, "mean"),
    "rotary": (timm("eva02_tiny_patch14_224", img_size=56, embed_dim=24, depth=3, num_heads=2), 56, "cls"),
    "resnet": (timm("resnet10t", channels=[4, 8, 12, 24]), 128, "mean"),
}


def donor_model(name: str) -> nn.Module:
    """A model whose every tensor is telling: norms, biases and layer scales start at constants."""
    torch.manual_seed(7)
    model = build_model(DONORS[name][0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save_donor(name: str, path: Path) -> Path:
    _, size, pooling = DONORS[name]
    preprocessing = Preprocessing(size=size, resize="squash", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
    save_tower(path, donor_model(name), preprocessing, pooling)
    return path
