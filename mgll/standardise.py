"""A tower whose pooled feature has mean 0 and variance 1 in every channel over a set of images.

Pooling ends in a layer norm, and an affine map behind it commutes with the mean over patches; so the standardisation is folded into
that norm, and nothing about the tower changes but the scale of what it hands on. Without it a fresh connector has to
find small differences between images beside a large common vector, which takes most of a short fine-tuning.
"""

import os
from collections.abc import Sequence

import torch

from mgll.linear_probe import tower_features
from mgll.tower import load_tower, save_tower


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
    """
    features = torch.from_numpy(tower_features(tower, images))
    mean, deviation = features.mean(0), features.std(0).clamp(min=floor)
    model, header = load_tower(tower)
    norm = model.post_layernorm
    norm.weight.div_(deviation)
    norm.bias.sub_(mean).div_(deviation)
    origin = {**header.origin, "standardised_over": len(images)}
    save_tower(out, model, header.preprocessing, header.pooling, **origin)
