"""A reading: what one way of using a tower's features says of every image for every class, and what is true of it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from mgll.evaluation.metrics import Summary, auc, summarise


@dataclass(frozen=True)
class ClassScore:
    """One class of a reading: its AUC, and on how many images it was read."""

    label: str
    auc: float
    positives: int
    negatives: int


@dataclass(frozen=True)
class Reading:
    """Scores of images for classes; it is kept whole, so that readings of two towers can be compared image by image.

    Attributes:
        name: how the features were used, such as `probe` or `left out ODIR-5K`.
        classes: class codes, sorted; each has positives and negatives among the images.
        images: path of each image [n].
        patients: who is seen, over all data sets [n].
        truth: whether an image has a class [n, classes].
        scores: logits [n, classes]; the sigmoid of one is a probability where the reading has one.
        left_out: class code -> why it was not read.
        strength: inverse strength C of the probe's regularisation as chosen; None for a reading without a probe.
        notes: what else there is to say, a sentence each.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[str, ...]
    patients: tuple[tuple[str, str], ...]
    truth: np.ndarray
    scores: np.ndarray
    left_out: Mapping[str, str] = field(default_factory=dict)
    strength: float | None = None
    notes: tuple[str, ...] = ()

    def by_class(self) -> tuple[ClassScore, ...]:
        """AUC and numbers of images of each class."""
        counts = self.truth.sum(axis=0)
        return tuple(
            ClassScore(
                label, auc(self.truth[:, c], self.scores[:, c]), int(counts[c]), len(self.images) - int(counts[c])
            )
            for c, label in enumerate(self.classes)
        )

    def summary(self) -> Summary:
        """All numbers over the classes."""
        return summarise(self.truth, self.scores)

    def among(
        self, name: str, images: np.ndarray | None = None, classes: Collection[str] | None = None, least: int = 1
    ) -> "Reading | None":
        """The reading of some images or classes alone; None if no class is left.

        Args:
            name: what it is to be called.
            images: which images [n], bool; None takes all.
            classes: the class codes; None takes all.
            least: positives, and negatives, that a class must have among the images.
        """
        kept = np.ones(len(self.images), dtype=bool) if images is None else images
        left_out = dict(self.left_out)
        columns = []
        for column, code in enumerate(self.classes):
            positives, total = int(self.truth[kept, column].sum()), int(kept.sum())
            if classes is not None and code not in classes:
                continue
            if why := too_few(positives, total - positives, least):
                left_out[code] = why
                continue
            columns.append(column)
        if not columns:
            return None
        rows = np.flatnonzero(kept)
        return Reading(
            name,
            tuple(self.classes[column] for column in columns),
            tuple(self.images[row] for row in rows),
            tuple(self.patients[row] for row in rows),
            self.truth[rows][:, columns],
            self.scores[rows][:, columns],
            left_out,
            self.strength,
            self.notes,
        )


def too_few(positives: int, negatives: int, least: int = 1) -> str:
    """Why a class can't be read on so many images; empty if it can."""
    for count, one, more in ((positives, "has it", "have it"), (negatives, "does not have it", "do not have it")):
        if count < least:
            said = f"1 image {one}" if count == 1 else f"{count} images {more}"
            return said + (f", {least} are asked for" if count else "")
    return ""
