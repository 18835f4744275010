"""A tower whose pooled feature has mean 0 and variance 1 in every channel over a set of images.

Pooling ends in a norm, and an affine map behind it commutes with the mean over patches. Therefore the standardisation is folded
into that norm, and nothing about the tower changes except the scale of what it hands on. Without it a fresh connector has to
find small differences between images beside a large common vector, which takes most of a short fine-tuning.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch

from mgll.tower.features import model_features
from mgll.tower.file import load_text_side, load_tower, save_tower
from mgll.tower.model import last_norm
from mgll.tower.seen import copy_seen

#: Number of images that go through the changed tower, to check that its feature is the old one on another scale.
_CHECKED = 4


@torch.no_grad()
def standardise_tower(
    tower: str | os.PathLike[str], images: Sequence[str], out: str | os.PathLike[str], floor: float = 1e-4
) -> None:
    """Write `tower` to `out` with its pooled feature standardised over `images`.

    Args:
        tower: a tower file.
        images: paths of training images; labels are not used.
        out: the tower file to write.
        floor: smallest standard deviation that is divided by.

    Raises:
        ImageError: for an image that cannot be read.
        ValueError: if the pooled feature of this tower does not come out of a norm with weight and bias.
    """
    model, header = load_tower(tower)
    features = torch.from_numpy(model_features(model, header, images))
    mean, deviation = features.mean(0), features.std(0).clamp(min=floor)
    norm: Any = last_norm(model)
    if getattr(norm, "bias", None) is not None:
        norm.weight.div_(deviation)
        norm.bias.sub_(mean).div_(deviation)
    found = torch.from_numpy(model_features(model, header, images[:_CHECKED]))
    if not torch.allclose(found, (features[:_CHECKED] - mean) / deviation, atol=0.05):
        raise ValueError(
            f"{tower}: its pooled feature ({header.pooling}) does not come straight out of a norm that could take up the scale"
        )
    origin = {**header.origin, "standardised_over": len(images)}
    copy_seen(tower, out)
    side = load_text_side(tower)
    side = side and side.for_standardised(mean, deviation)
    save_tower(out, model, header.preprocessing, header.pooling, side, **origin)
