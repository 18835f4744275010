"""What a contrastive step sees: images decoded and augmented, texts by level as indices into the unique texts.

The order is a pure function of (seed, epoch) and the augmentation one of (seed, epoch, index). So a resumed run sees the same
batches, and every process of a distributed run knows the whole global batch without asking the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tvf

from mgll.manifest import Record, levels
from mgll.preprocessing import ImageError, Preprocessing, normalise, open_image, to_square


@dataclass(frozen=True)
class TextLevel:
    """The texts of one granularity over a whole manifest.

    Attributes:
        unique: every text once, in order of first appearance.
        of_record: for each record, the indices of its texts in `unique`, with repeats.
    """

    unique: tuple[str, ...]
    of_record: tuple[tuple[int, ...], ...]

    def batch(self, records: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Indices of the batch's unique texts [U] and its incidence [len(records), U]."""
        own = [self.of_record[record] for record in records]
        used = sorted({text for texts in own for text in texts})
        column = {text: position for position, text in enumerate(used)}
        incidence = torch.zeros(len(own), len(used))
        for row, texts in enumerate(own):
            for text in texts:
                incidence[row, column[text]] += 1
        return torch.tensor(used, dtype=torch.long), incidence


def text_levels(records: Sequence[Record], captions: bool) -> dict[str, TextLevel]:
    """The levels of a manifest; with `captions` one level whose text joins all texts of the image."""
    if captions:
        return {"caption": _text_level([(record.caption,) for record in records])}
    return {name: _text_level([record.texts.get(name, ()) for record in records]) for name in levels(records)}


def _text_level(texts: Sequence[Sequence[str]]) -> TextLevel:
    index: dict[str, int] = {}
    of_record = tuple(tuple(index.setdefault(text, len(index)) for text in own) for own in texts)
    return TextLevel(tuple(index), of_record)


@dataclass(frozen=True)
class Augmentation:
    """Random crop, flip and colour jitter; see `PretrainSettings` for the fields."""

    crop_scale: float
    flip: float
    colour_jitter: float
    seed: int


class TrainingImages(Dataset[tuple[Tensor, bool]]):
    """Augmented training images; a key is (epoch, index).

    An item is (pixels float32 [3, size, size], whether the image could be read). A damaged image gives zeros, so that the
    batch keeps its shape and the step can leave it out.
    """

    def __init__(
        self, records: Sequence[Record], preprocessing: Preprocessing, augmentation: Augmentation, cache: bool = True
    ) -> None:
        self.records, self.preprocessing, self.augmentation = records, preprocessing, augmentation
        self._cache: dict[int, Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, bool]:
        epoch, index = key
        size = self.preprocessing.size
        try:
            pixels = self._square(index)
        except ImageError:
            return torch.zeros(3, size, size), False
        random = np.random.default_rng([self.augmentation.seed, epoch, index])
        return normalise(_augment(pixels, size, self.augmentation, random), self.preprocessing), True

    def _square(self, index: int) -> Tensor:
        """The image as a square a quarter larger than the input, so that crops keep detail."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        larger = self.preprocessing.model_copy(update={"size": self.preprocessing.size * 5 // 4})
        pixels = to_square(open_image(self.records[index].image), larger)
        if self._cache is not None:
            self._cache[index] = pixels
        return pixels


def _augment(pixels: Tensor, size: int, settings: Augmentation, random: np.random.Generator) -> Tensor:
    """Crop, flip and jitter a uint8 square [3, S, S] into uint8 [3, size, size]."""
    side = pixels.shape[-1]
    keep = round(side * float(random.uniform(settings.crop_scale, 1.0)) ** 0.5)
    top, left = (int(random.integers(0, side - keep + 1)) for _ in range(2))
    pixels = tvf.resized_crop(pixels, top, left, keep, keep, [size, size], antialias=True)
    if random.uniform() < settings.flip:
        pixels = tvf.horizontal_flip(pixels)
    if settings.colour_jitter:
        low, high = max(0.0, 1 - settings.colour_jitter), 1 + settings.colour_jitter
        for adjust in (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation):
            pixels = adjust(pixels, float(random.uniform(low, high)))
    return pixels


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of the training images in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def global_batches(count: int, batch_size: int, seed: int, epoch: int, first: int = 0) -> Iterator[list[int]]:
    """Record indices of every global batch of an epoch from batch `first` on; the incomplete last one is left out."""
    order = epoch_order(count, seed, epoch)
    for start in range(first * batch_size, count - batch_size + 1, batch_size):
        yield order[start : start + batch_size].tolist()


def process_share(batch: list[int], process: int, processes: int) -> list[int]:
    """The contiguous part of a global batch that one process loads."""
    size = len(batch) // processes
    return batch[process * size : (process + 1) * size]
