"""The images of a manifest by what they are for, with their features and classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgll.evaluation.classes import truth_of
from mgll.evaluation.reading import Reading
from mgll.manifest.records import Record

#: Share of the training patients who choose settings where the manifest has no validation split.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Part:
    """Images with their features [n, width] and classes."""

    records: Sequence[Record]
    features: np.ndarray
    classes: Sequence[set[str]]

    def where(self, kept: Sequence[bool] | np.ndarray) -> "Part":
        """The images of these rows alone, of a mask [n]."""
        rows = np.flatnonzero(kept).tolist()
        return Part([self.records[i] for i in rows], self.features[rows], [self.classes[i] for i in rows])

    def truth(self, classes: Sequence[str]) -> np.ndarray:
        """Whether each image has each class [n, classes], bool."""
        return truth_of(classes, self.classes)

    def reading(
        self,
        name: str,
        classes: tuple[str, ...],
        scores: np.ndarray,
        left_out: Mapping[str, str],
        strength: float | None = None,
        notes: tuple[str, ...] = (),
    ) -> Reading:
        """The reading of these images by scores [n, classes]; the other arguments are its attributes."""
        images, patients = (tuple(getattr(record, key) for record in self.records) for key in ("image", "patient"))
        return Reading(name, classes, images, patients, self.truth(classes), scores, left_out, strength, notes)


@dataclass(frozen=True)
class Parts:
    """The images that are fitted on, those that choose, and those that are read."""

    train: Part
    validation: Part
    read: Part
    whole: Part

    def without(self, source: str, all_of_it: bool) -> "Parts":
        """Fitted and chosen on all other sources, and read on this one."""
        train, validation = (
            part.where([record.source != source for record in part.records]) for part in (self.train, self.validation)
        )
        read = self.whole if all_of_it else self.read
        return Parts(train, validation, read.where([record.source == source for record in read.records]), self.whole)


def drawn(records: Sequence[Record], share: float, seed: int) -> np.ndarray:
    """Whether each record is of a patient who is drawn [n], bool; at least one is. A larger share of one seed holds the smaller."""
    patients = list(dict.fromkeys(record.patient for record in records))
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = {patients[number] for number in order[: max(1, round(share * len(patients)))]}
    return np.array([record.patient in chosen for record in records], dtype=bool)


def choosers(classes: Sequence[str], train: Part, validation: Part) -> tuple[Part, Part, tuple[str, ...]]:
    """The images that are fitted on and those that choose settings, and what there is to say of it.

    Without a class that has positives and negatives in split `val`, a fifth of the training patients choose.

    Raises:
        ValueError: if they can't choose either.
    """
    if _can_choose(classes, validation):
        return train, validation, ()
    apart = drawn(train.records, _HELD_OUT, seed=0)
    chooses = train.where(apart)
    if not _can_choose(classes, chooses):
        raise ValueError(
            "split 'val' has no image by which a strength could be chosen, nor has a fifth of the training patients; give a single"
            " one (--strengths 0.01)"
        )
    note = f"no image of split 'val': {int(apart.sum())} training images of other patients chose the strength"
    return train.where(~apart), chooses, (note,)


def _can_choose(classes: Sequence[str], part: Part) -> bool:
    return any(0 < column.sum() < len(column) for column in part.truth(classes).T)
