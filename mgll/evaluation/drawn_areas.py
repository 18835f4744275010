"""Areas that a tower's decoder drew: how far they cover the true ones, image by image (Dice and IoU)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segmentation:
    """What a tower's decoder drew.

    Attributes:
        tower: its name.
        digest: hex SHA-256 of its weights.
        texts: whether the decoder got what the texts say.
        overlap: label -> Dice and IoU of each image that has the structure [n, 2].
        images: label -> paths of the images that have it.
        patients: label -> who is seen on them.
        without: label -> number of images that do not have it, and the share of these on which nothing was drawn.
        said: what was chosen, a sentence.
    """

    tower: str
    digest: str
    texts: bool
    overlap: Mapping[str, np.ndarray]
    images: Mapping[str, tuple[str, ...]]
    patients: Mapping[str, tuple[tuple[str, str], ...]]
    without: Mapping[str, tuple[int, float]]
    said: str


def dice(truth: np.ndarray, drawn: np.ndarray) -> float:
    """Twice the common area over the sum of both, of masks bool [height, width]; 1 where both are empty."""
    both = int(truth.sum()) + int(drawn.sum())
    return 2 * int((truth & drawn).sum()) / both if both else 1.0


def intersection_over_union(truth: np.ndarray, drawn: np.ndarray) -> float:
    """The common area over that of either, of masks bool [height, width]; 1 where both are empty."""
    either = int((truth | drawn).sum())
    return int((truth & drawn).sum()) / either if either else 1.0
