"""What a contrastive step sees: images decoded and augmented, texts by level as indices into the unique texts.

The order is a pure function of (seed, epoch), the augmentation a pure function of (seed, epoch, index). Therefore a resumed run
sees the same batches, and every process of a distributed run knows the whole global batch without asking the others.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from mgll.images.decoding import open_square
from mgll.images.files import tar_member
from mgll.images.preprocessing import Preprocessing
from mgll.manifest.records import Record
from mgll.settings import TextLevels
from mgll.training.looks import Augmentation, Look, apply_look, draw_look
from mgll.training.shared_images import SharedImages


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

    def occurrences(
        self, records: Sequence[int], draw: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The texts that some records carry, one after the other with repeats.

        Args:
            records: numbers of the records.
            draw: draws one text of each record that has any; None takes all of them.

        Returns:
            For each text the place of its record in `records`, and its index in `unique`, both [n] int64.
        """
        if draw is not None:
            own = [self.of_record(record) for record in records]
            drawn = [draw.choice(texts, min(1, len(texts))) for texts in own]
            counts = np.fromiter(map(len, drawn), np.int64, len(drawn))
            return np.repeat(np.arange(len(drawn)), counts), np.concatenate(drawn).astype(np.int64)
        first = self.bounds[np.asarray(records)]
        counts = self.bounds[np.asarray(records) + 1] - first
        return np.repeat(np.arange(len(counts)), counts), self.texts[ranges(first, counts)].astype(np.int64)


def ranges(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The whole numbers `first[i], first[i] + 1, ...`, `counts[i]` of them, for one i after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(first - before, counts)


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


class TrainingImages(Dataset[tuple[Tensor, Look | None]]):
    """Training images as squares of uint8 pixels; a key is (epoch, index).

    An item is the pixels, augmented to [3, size, size], and None; or where the device augments, the square [3, larger, larger] and
    what is to be done to it. With `source_resolution` an image is first scaled down to that longest side, in pixels, as if its file
    held no more.

    Args:
        records: the images.
        preprocessing: how they become squares.
        augmentation: what is drawn for each image in each epoch.
        kept: where decoded images are kept, if anywhere; squares of `larger_side`.
        source_resolution: see above.
        on_device: whether the device augments.
    """

    def __init__(
        self,
        records: Sequence[Record],
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        kept: SharedImages | None = None,
        source_resolution: int | None = None,
        on_device: bool = False,
    ) -> None:
        self.records, self.preprocessing, self.augmentation = records, preprocessing, augmentation
        self.on_device = on_device
        self._source_resolution, self._kept = source_resolution, kept
        self._larger = preprocessing.model_copy(update={"size": larger_side(preprocessing.size)})

    def __len__(self) -> int:
        return len(self.records)

    @property
    def side(self) -> int:
        """Height and width of an item's pixels."""
        return self._larger.size if self.on_device else self.preprocessing.size

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Look | None]:
        """Read an image.

        Raises:
            ImageError: for a damaged image.
        """
        pixels, size = self._square(key[1]), self.preprocessing.size
        look = draw_look(pixels.shape[-2:], self.augmentation, np.random.default_rng([self.augmentation.seed, *key]))
        return (pixels, look) if self.on_device else (apply_look(pixels, (size, size), look), None)

    def _square(self, index: int) -> Tensor:
        """The image as a square a quarter larger than the input, so that crops keep detail."""
        if self._kept is not None and (found := self._kept.get(index)) is not None:
            return found
        pixels = open_square(self.records[index].image, self._larger, self._source_resolution)
        if self._kept is not None:
            self._kept.put(index, pixels)
        return pixels


def larger_side(size: int) -> int:
    """Height and width of the squares of which inputs of `size` are cropped."""
    return size * 5 // 4


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
