"""Which classes images have, and which of them can be learned and read."""

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np

from mgll.evaluation.reading import too_few
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.diseases import FUNDUS

Grades = Literal["fold", "keep"]


def classes_of(labels: Sequence[str], grades: Grades = "fold", table: ClassTable = FUNDUS) -> set[str]:
    """The class codes of an image that a reader of features is asked for; negative ones (`No AMD`) are left out.

    Args:
        labels: the labels of its record; one that the class table does not have is a class of its own.
        grades: `fold` replaces a grade by what it grades (`Mild NPDR` by `DR`), `keep` keeps it, for data sets of grades.
        table: the class table.
    """
    found = set()
    for label in labels:
        graded = table.parents(label) if label in table.classes and grades == "fold" else ()
        code = graded[0] if graded else label
        if code not in table.negative_of:
            found.add(code)
    return found


def truth_of(classes: Sequence[str], images: Sequence[Collection[str]]) -> np.ndarray:
    """Whether each image has each class [images, classes], bool."""
    return np.array([[code in own for code in classes] for own in images], dtype=bool).reshape(
        len(images), len(classes)
    )


def readable(
    train: Sequence[Collection[str]], read: Sequence[Collection[str]], min_train: int, min_read: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The classes that can be learned and read, sorted, and of all others why not.

    Args:
        train: classes of each training image.
        read: classes of each image that is read.
        min_train: training images that a class must have, and lack.
        min_read: images that must have it among those that are read, and lack it.
    """
    kept, left_out = [], {}
    for code in sorted({code for own in (*train, *read) for code in own}):
        learned, known = (sum(code in own for own in images) for images in (train, read))
        if why := too_few(learned, len(train) - learned, min_train):
            left_out[code] = f"of {len(train)} training images {why}"
        elif why := too_few(known, len(read) - known, min_read):
            left_out[code] = f"of {len(read)} images read {why}"
        else:
            kept.append(code)
    return tuple(kept), left_out
