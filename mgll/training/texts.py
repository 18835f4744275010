"""The texts of a run: all levels share one list of unique texts, and a step takes each text that it needs once.

Which texts a step takes is found on the CPU, in a worker process where there is one, in arrays that grow with the texts of a batch
and not with images times texts. They alone go to the device, where the matrices are made of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mgll.encoders.text import TextEncoder
from mgll.encoders.tokens import Tokens
from mgll.objective import ImageGroups
from mgll.training.data import TextLevel
from mgll.training.distributed import share_of, to_device


@dataclass(frozen=True)
class LevelTexts:
    """Which unique texts the images of a global batch have at one level, and how often.

    Attributes:
        texts: places of the level's texts among the unique texts of the batch [U_level].
        pairs: image * U_level + text for every pair that occurs, ascending [P].
        counts: how often each pair occurs [P].
    """

    texts: np.ndarray
    pairs: np.ndarray
    counts: np.ndarray

    def incidence(self, images: int, device: torch.device | str) -> Tensor:
        """How often each image carries each text of the level: float32 [images, U_level] on a device."""
        flat = torch.zeros(images * len(self.texts), device=device)
        flat[_moved(self.pairs, device)] = _moved(self.counts, device).float()
        return flat.view(images, len(self.texts))


@dataclass(frozen=True)
class PickedTexts:
    """The texts of a global batch in small arrays; of numpy, which pass from process to process without a file for each.

    Attributes:
        images: number of images of the global batch, N.
        unique: number of unique texts, U.
        inputs: of this process's share of the unique texts their numbers in the run [u]; or, where they are encoded in each step,
            token ids (int32) and mask (bool), both [u, L].
        levels: level -> its texts.
        groups: for each image the number of its group [N]; for each group one of its images [K], and whether these have every level
            [K]. None if there is only one level.
    """

    images: int
    unique: int
    inputs: tuple[np.ndarray, ...]
    levels: Mapping[str, LevelTexts]
    groups: tuple[np.ndarray, np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class TextBatch:
    """The unique texts of a global batch.

    Attributes:
        inputs: input of the model's text side for this process's share of the texts: token ids and mask, each [u, L]; or only
            features [u, width] if the text encoder is frozen. One process has all of them, u = U.
        unique: number of unique texts, U.
        columns: level -> indices of the level's unique texts among the U texts [U_level].
        incidences: level -> how often each image carries each unique text of the level [N, U_level].
        groups: the images grouped by having the same texts at every level; None if there is only one level.
    """

    inputs: tuple[Tensor, ...]
    unique: int
    columns: Mapping[str, Tensor]
    incidences: Mapping[str, Tensor]
    groups: ImageGroups | None


@dataclass(frozen=True)
class TextTable:
    """All texts of a manifest as numbers, and as tokens unless their features are computed beforehand; worker processes share it.

    Attributes:
        levels: the levels.
        numbers: level -> number in the run of each of its unique texts [unique texts of the level].
        tokens: tokens by number; None where the text encoder is frozen.
        process: which process this is of those that share the texts of a batch.
        processes: how many these are.
    """

    levels: Mapping[str, TextLevel]
    numbers: Mapping[str, np.ndarray]
    tokens: Tokens | None
    process: int = 0
    processes: int = 1

    def pick(self, records: Sequence[int], draw: np.random.Generator | None = None) -> PickedTexts:
        """The unique texts of some records; a text that two levels share is there once.

        Args:
            records: numbers of the records.
            draw: draws one text of each record; None takes all of them.
        """
        rows, texts = {}, {}
        for name, level in self.levels.items():
            rows[name], own = level.occurrences(records, draw)
            texts[name] = self.numbers[name][own]
        unique = np.unique(np.concatenate(list(texts.values())))
        levels = {name: _level_texts(rows[name], texts[name], unique) for name in self.levels}
        return PickedTexts(
            len(records),
            len(unique),
            self._inputs(torch.from_numpy(unique)),
            levels,
            _groups(list(levels.values()), len(records)) if len(levels) > 1 else None,
        )

    def _inputs(self, unique: Tensor) -> tuple[np.ndarray, ...]:
        own = share_of(unique, self.process, self.processes)
        if self.tokens is None:
            return (own.numpy(),)
        longest = int(self.tokens.lengths_of(unique).max())
        ids, mask = self.tokens.batch(own, longest)
        return ids.int().numpy(), mask.bool().numpy()


def _level_texts(rows: np.ndarray, texts: np.ndarray, unique: np.ndarray) -> LevelTexts:
    """One level, given image and number in the run of every text that occurs, and the numbers of the batch's unique texts."""
    used, columns = np.unique(texts, return_inverse=True)
    pairs, counts = np.unique(rows * max(1, len(used)) + columns, return_counts=True)
    return LevelTexts(np.searchsorted(unique, used), pairs, counts)


def _groups(levels: Sequence[LevelTexts], images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups of `PickedTexts`, numbered as `mgll.objective.group_images` numbers them: by their rows of counts, ascending.

    A row of counts that are mostly 0 is compared by its others: of two rows the one is less whose first count that differs is less.
    Each count becomes one number, the larger the further to the left it stands and then the larger it is, and a row the list of
    these numbers from left to right, filled up with 0.
    """
    widths = [len(level.texts) for level in levels]
    most = 1 + max((int(level.counts.max()) for level in levels if len(level.counts)), default=0)
    complete = np.ones(images, dtype=bool)
    rows, keys = [], []
    for level, width, before in zip(levels, widths, np.cumsum(widths) - widths, strict=True):
        row, column = np.divmod(level.pairs, max(1, width))
        complete &= np.bincount(row, minlength=images) > 0
        rows.append(row)
        keys.append((sum(widths) - before - column) * most + level.counts)
    row, key = np.concatenate(rows), np.concatenate(keys)
    row, key = row[complete[row]], key[complete[row]]
    order = np.lexsort((-key, row))
    row, key = row[order], key[order]
    counts = np.bincount(row, minlength=images)
    table = np.zeros((images, max(1, int(counts.max(initial=0)))), dtype=np.int64)
    table[row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)] = key
    order = np.lexsort(table.T[::-1])
    is_new = np.r_[True, (table[order[1:]] != table[order[:-1]]).any(1)]
    group = np.empty(images, dtype=np.int64)
    group[order] = np.cumsum(is_new) - 1
    first = order[is_new]
    return group, first, complete[first]


class TrainingTexts:
    """All texts of a manifest, prepared once: as features if the text encoder is frozen, otherwise as tokens."""

    def __init__(
        self,
        levels: Mapping[str, TextLevel],
        encoder: TextEncoder,
        device: torch.device | str,
        tokens: Callable[[Sequence[str]], Tokens] | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """Prepare the texts.

        Args:
            levels: the texts.
            encoder: the text encoder.
            device: where batches go.
            tokens: gives the tokens of texts in place of `encoder.tokenise`, such as from a file.
            process: which process this is of those that share the texts of a batch.
            processes: how many these are.
        """
        index: dict[str, int] = {}
        numbers = {
            name: np.array([index.setdefault(text, len(index)) for text in level.unique], dtype=np.int64)
            for name, level in levels.items()
        }
        self.device = device
        self._features = encoder.to(device).features(list(index)).to(device) if encoder.frozen else None
        own = None if encoder.frozen else (tokens or encoder.tokenise)(list(index))
        self.table = TextTable(levels, numbers, own, process, processes)

    def batch(self, records: Sequence[int], draw: np.random.Generator | None = None) -> TextBatch:
        """The texts of some records on the device; see `TextTable.pick`."""
        return self.on_device(self.table.pick(records, draw))

    def on_device(self, picked: PickedTexts) -> TextBatch:
        """Picked texts on the device. The caller does not wait for a GPU."""
        inputs = tuple(_moved(array, self.device) for array in picked.inputs)
        incidences = {name: level.incidence(picked.images, self.device) for name, level in picked.levels.items()}
        groups = None
        if picked.groups is not None:
            group, first, complete = (_moved(array, self.device) for array in picked.groups)
            groups = ImageGroups(group, [own[first] * complete.unsqueeze(1) for own in incidences.values()])
        return TextBatch(
            tuple(array.long() for array in inputs) if self._features is None else (self._features[inputs[0]],),
            picked.unique,
            {name: _moved(level.texts, self.device) for name, level in picked.levels.items()},
            incidences,
            groups,
        )


def _moved(array: np.ndarray, device: torch.device | str) -> Tensor:
    return to_device(torch.from_numpy(array), device)
