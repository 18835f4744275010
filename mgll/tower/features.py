"""Pooled features of images under a tower."""

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm import tqdm

from mgll.images.broken import broken_named_together
from mgll.images.decoding import open_square
from mgll.images.preprocessing import Preprocessing, normalise
from mgll.tower.config import Pooling
from mgll.tower.file import TowerHeader, load_tower

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Output = Literal["pooled", "grid"]
#: Processes that decode images for a GPU; on a CPU the forward pass takes what cores there are.
_WORKERS = 16


def tower_features(tower: str | os.PathLike[str], images: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Pooled features of images under a tower file: [len(images), width].

    Raises:
        ImageError: for an image that cannot be read; an evaluation never skips one.
    """
    return model_features(*load_tower(tower), images, batch_size)


def model_features(
    model: "PreTrainedModel", header: TowerHeader, images: Sequence[str], batch_size: int = 64
) -> np.ndarray:
    """Pooled features of images under a tower in memory, on the device where it is: [len(images), width].

    Raises:
        ImageError: for an image that cannot be read; an evaluation never skips one.
    """
    return np.concatenate(list(feature_batches(model, header.preprocessing, header.pooling, images, batch_size)))


def feature_batches(
    model: "PreTrainedModel",
    preprocessing: Preprocessing,
    pooling: Pooling,
    images: Sequence[str],
    batch_size: int = 64,
    half: "torch.dtype | None" = None,
    show: bool = True,
    output: Output = "pooled",
) -> Iterator[np.ndarray]:
    """Features of images, batch by batch in their order, float32 [batch, width], or [batch, grid ** 2, width] of the grid.

    Args:
        model: the tower's model, in evaluation mode, on the device where it is to run.
        preprocessing: how images become its input.
        pooling: which of its outputs is the feature.
        images: paths.
        batch_size: images at once.
        half: dtype of 16 bits in which matrices are multiplied; None for float32.
        show: draw a progress bar.
        output: the `pooled` feature, or the `grid` of patches or cells behind the last norm, row by row.

    Raises:
        ImageError: for images that cannot be read, all of them together.
    """
    # here, because torch takes seconds to import
    import torch
    from torch.utils.data import DataLoader

    from mgll.tower.model import grid_features, image_feature

    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    workers = min(_WORKERS, os.cpu_count() or 1, len(images) // batch_size) if on_gpu else 0
    squares = Squares(images, preprocessing)
    loader = DataLoader(squares, batch_size, num_workers=workers, pin_memory=on_gpu)  # type: ignore[arg-type,var-annotated]
    bar = tqdm(total=len(images), desc="features", unit="image", leave=False, disable=not show)
    with bar, broken_named_together(images, show):
        for pixels in loader:
            lower = torch.autocast(device.type, dtype=half) if half else nullcontext()
            with torch.inference_mode(), lower:
                batch = normalise(pixels.to(device, non_blocking=True), preprocessing)
                made = grid_features(model, batch) if output == "grid" else image_feature(model, batch, pooling)
                found = made.float().cpu().numpy()
            yield found
            bar.update(len(found))


class Squares:
    """Images as the tower's preprocessing makes them square: uint8 [3, size, size]."""

    def __init__(self, images: Sequence[str], preprocessing: Preprocessing) -> None:
        self._images, self._preprocessing = images, preprocessing

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> "torch.Tensor":
        return open_square(self._images[index], self._preprocessing)
