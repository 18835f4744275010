"""Pooled features of images under a tower."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from mgll.images.preprocessing import open_image, preprocess
from mgll.tower.file import TowerHeader, load_tower

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def tower_features(tower: str | os.PathLike[str], images: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Pooled features of images under a tower file: [len(images), width].

    Raises:
        ImageError: for an image that cannot be read; an evaluation never skips one.
    """
    return model_features(*load_tower(tower), images, batch_size)


def model_features(
    model: "PreTrainedModel", header: TowerHeader, images: Sequence[str], batch_size: int = 64
) -> np.ndarray:
    """Pooled features of images under a tower in memory: [len(images), width].

    Raises:
        ImageError: for an image that cannot be read; an evaluation never skips one.
    """
    # here, because torch takes seconds to import
    import torch

    from mgll.tower.model import image_feature

    parts = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(images), batch_size), desc="features", leave=False):
            batch = [
                preprocess(open_image(image), header.preprocessing) for image in images[start : start + batch_size]
            ]
            parts.append(image_feature(model, torch.stack(batch), header.pooling).numpy())
    return np.concatenate(parts)
