"""The texts of a run: all levels share one list of unique texts, and a step takes each text that it needs once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mgll.encoders.text import TextEncoder
from mgll.objective import ImageGroups, group_images
from mgll.training.data import TextLevel
from mgll.training.distributed import to_device


@dataclass(frozen=True)
class TextBatch:
    """The unique texts of a global batch.

    Attributes:
        inputs: input of the model's text side: token ids and mask, each [U, L]; or only features [U, width] if the text encoder is
            frozen.
        columns: level -> indices of the level's unique texts among the U texts [U_level].
        incidences: level -> how often each image carries each unique text of the level [N, U_level].
        groups: the images grouped by having the same texts at every level; None if there is only one level.
    """

    inputs: tuple[Tensor, ...]
    columns: Mapping[str, Tensor]
    incidences: Mapping[str, Tensor]
    groups: ImageGroups | None


class TrainingTexts:
    """All texts of a manifest, prepared once: as features if the text encoder is frozen, otherwise as tokens."""

    def __init__(self, levels: Mapping[str, TextLevel], encoder: TextEncoder, device: torch.device | str) -> None:
        index: dict[str, int] = {}
        self.levels, self.device = levels, device
        self._rows = {
            name: torch.tensor([index.setdefault(text, len(index)) for text in level.unique])
            for name, level in levels.items()
        }
        self._features = encoder.to(device).features(list(index)).to(device) if encoder.frozen else None
        self._tokens = None if encoder.frozen else encoder.tokenise(list(index))

    def batch(self, records: Sequence[int], draw: np.random.Generator | None = None) -> TextBatch:
        """The unique texts of some records; a text that two levels share is there once.

        The indices are computed on the CPU, so that the caller does not wait for a GPU.

        Args:
            records: numbers of the records.
            draw: draws one text of each record; None takes all of them.
        """
        parts = {name: level.batch(records, draw) for name, level in self.levels.items()}
        rows = [self._rows[name][used] for name, (used, _) in parts.items()]
        unique, inverse = torch.unique(torch.cat(rows), return_inverse=True)
        columns = inverse.split([len(own) for own in rows])
        if self._tokens is not None:
            inputs: tuple[Tensor, ...] = self._tokens.batch(unique)
        else:
            assert self._features is not None
            inputs = (self._features[to_device(unique, self.device)],)
        groups = group_images([incidence for _, incidence in parts.values()]) if len(parts) > 1 else None
        return TextBatch(
            tuple(to_device(tensor, self.device) for tensor in inputs),
            {name: to_device(column, self.device) for name, column in zip(parts, columns, strict=True)},
            {name: to_device(incidence, self.device) for name, (_, incidence) in parts.items()},
            groups
            and ImageGroups(to_device(groups.group, self.device), [to_device(c, self.device) for c in groups.counts]),
        )
