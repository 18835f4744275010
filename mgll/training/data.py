"""What a contrastive step sees: images decoded and augmented, texts by level as indices into the unique texts.

The order is a pure function of (seed, epoch), the augmentation a pure function of (seed, epoch, index). Therefore a resumed run
sees the same batches, and every process of a distributed run knows the whole global batch without asking the others.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tvf

from mgll.images.decoding import open_square
from mgll.images.files import tar_member
from mgll.images.preprocessing import ImageError, Preprocessing, normalise
from mgll.manifest.records import Record
from mgll.settings import TextLevels


@dataclass(frozen=True)
class TextLevel:
    """The texts of one granularity over a whole manifest, in arrays that worker processes share.

    Attributes:
        unique: every text once, in order of first appearance.
        texts: indices into `unique`, record after record, with repeats [T].
        bounds: record r has `texts[bounds[r] : bounds[r + 1]]` [records + 1].
    """

    unique: tuple[str, ...]
    texts: np.ndarray
    bounds: np.ndarray

    def of_record(self, record: int) -> np.ndarray:
        """Indices of a record's texts in `unique`."""
        return self.texts[self.bounds[record] : self.bounds[record + 1]]

    def batch(self, records: Sequence[int], draw: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Indices in `unique` of the texts that some records carry, each once [U], and the records' incidence [len(records), U].

        Args:
            records: numbers of the records.
            draw: draws one text of each record that has any; None takes all of them.
        """
        own = [self.of_record(record) for record in records]
        if draw is not None:
            own = [draw.choice(texts, min(1, len(texts))) for texts in own]
        used, columns = np.unique(np.concatenate(own), return_inverse=True)
        rows = np.repeat(np.arange(len(own)), [len(texts) for texts in own])
        incidence = np.zeros((len(own), len(used)), dtype=np.float32)
        np.add.at(incidence, (rows, columns), 1)
        return torch.from_numpy(used.astype(np.int64)), torch.from_numpy(incidence)


def text_levels(
    records: Iterable[Record], levels: TextLevels, join: Mapping[str, str] | None = None
) -> dict[str, TextLevel]:
    """The texts of every level of a manifest.

    Args:
        records: the records of the manifest.
        levels: as `ObjectiveSettings.levels`. With `caption` there is one level of this name, whose text joins all texts of an
            image; with `single` one that has all of them, of which each step draws one.
        join: level -> the level that its texts count as; levels not named are kept. Captions are not of levels.

    Raises:
        ValueError: if there is no text at all, or none at a level that is to be joined.
    """
    joined: Mapping[str, str] = {} if levels == "caption" or not join else join
    waiting = set(joined)
    index: defaultdict[str, dict[str, int]] = defaultdict(dict)
    texts: defaultdict[str, array[int]] = defaultdict(lambda: array("i"))
    rows: defaultdict[str, array[int]] = defaultdict(lambda: array("i"))
    count = 0
    for row, record in enumerate(records):
        count = row + 1
        own_levels = {"caption": tuple(filter(None, [record.caption]))} if levels == "caption" else record.texts
        for name, own in own_levels.items():
            if own:
                waiting.discard(name)
                level = "single" if levels == "single" else joined.get(name, name)
                unique = index[level]
                texts[level].extend(unique.setdefault(text, len(unique)) for text in own)
                rows[level].extend([row] * len(own))
    if not index:
        raise ValueError("no image has a text; there is nothing to train against")
    if waiting:
        raise ValueError(f"join_levels: no image has level {', '.join(sorted(waiting))}; there are {', '.join(index)}")
    return {
        level: TextLevel(
            tuple(index[level]),
            np.asarray(texts[level], dtype=np.int32),
            np.searchsorted(np.asarray(rows[level], dtype=np.int32), np.arange(count + 1)),
        )
        for level in index
    }


@dataclass(frozen=True)
class Augmentation:
    """Random crop, flip and colour jitter. The fields mean what the settings of these names mean in `PretrainSettings`."""

    crop_scale: float
    flip: float
    colour_jitter: float
    seed: int


class TrainingImages(Dataset[tuple[Tensor, bool]]):
    """Augmented training images; a key is (epoch, index).

    An item is (pixels float32 [3, size, size], whether the image could be read). A damaged image gives zeros, so that the
    batch keeps its shape and the step can leave it out. With `source_resolution` an image is first scaled down to that longest
    side, in pixels, as if its file held no more.
    """

    def __init__(
        self,
        records: Sequence[Record],
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        cache: bool = True,
        source_resolution: int | None = None,
    ) -> None:
        self.records, self.preprocessing, self.augmentation = records, preprocessing, augmentation
        self._source_resolution = source_resolution
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
        return normalise(augment(pixels, (size, size), self.augmentation, random), self.preprocessing), True

    def _square(self, index: int) -> Tensor:
        """The image as a square a quarter larger than the input, so that crops keep detail."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        larger = self.preprocessing.model_copy(update={"size": self.preprocessing.size * 5 // 4})
        pixels = open_square(self.records[index].image, larger, self._source_resolution)
        if self._cache is not None:
            self._cache[index] = pixels
        return pixels


def augment(pixels: Tensor, size: tuple[int, int], settings: Augmentation, random: np.random.Generator) -> Tensor:
    """Crop, flip and jitter uint8 pixels [3, H, W] into uint8 [3, *size]; the crop has the shape of the image."""
    share = float(random.uniform(settings.crop_scale, 1.0)) ** 0.5
    height, width = (max(1, round(side * share)) for side in pixels.shape[-2:])
    top, left = (
        int(random.integers(0, side - keep + 1)) for side, keep in zip(pixels.shape[-2:], (height, width), strict=True)
    )
    pixels = tvf.resized_crop(pixels, top, left, height, width, list(size), antialias=True)
    if random.uniform() < settings.flip:
        pixels = tvf.horizontal_flip(pixels)
    if settings.colour_jitter:
        low, high = max(0.0, 1 - settings.colour_jitter), 1 + settings.colour_jitter
        for adjust in (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation):
            pixels = adjust(pixels, float(random.uniform(low, high)))
    return pixels


def shards_of(records: Iterable[Record]) -> np.ndarray:
    """For each image the number of its shard, or of its folder if it lies in no shard [records]."""
    numbers: dict[str, int] = {}
    paths = (record.image for record in records)
    places = (member.shard if (member := tar_member(path)) else path.rpartition("/")[0] for path in paths)
    return np.fromiter((numbers.setdefault(place, len(numbers)) for place in places), dtype=np.int64)


def epoch_order_by_shards(shards: np.ndarray, at_once: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation like `epoch_order` that goes through the shards, in random order, `at_once` at a time.

    Args:
        shards: number of the shard of each image [images].
        at_once: how many shards have their images mixed with each other.
        seed: seed of the run.
        epoch: number of the epoch; every epoch mixes other shards with each other.
    """
    random = np.random.default_rng([seed, epoch])
    turn = random.permutation(shards.max() + 1)[shards] // at_once
    return np.lexsort((random.random(len(shards)), turn))
