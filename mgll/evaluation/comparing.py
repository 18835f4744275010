"""The macro AUC of several runs as a sum over patients, so that seeds and patients can both be taken as random.

An AUC is a mean over pairs of images. To first order it is a sum over images: how far each one's placement among the images of the
other kind lies from the AUC (DeLong 1988), added up within patients (Obuchowski 1997). The mean over classes, over runs or over
left-out sources of such sums is again one. `benchmark.stats.seeds` makes intervals and tests of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgll.evaluation.metrics import placements
from mgll.evaluation.reading import Reading


@dataclass(frozen=True)
class Side:
    """The runs of one method, all read on the same images.

    Attributes:
        values: macro AUC of each run [runs].
        influence: what each patient adds to each run's macro AUC beyond what is expected of one [runs, patients]; its sum over
            patients is 0 up to rounding, the sum of its squares the variance of the macro AUC.
    """

    values: np.ndarray
    influence: np.ndarray


def auc_influence(truth: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """An AUC and what each patient adds to it.

    Few patients scatter less about their own mean than about the truth; this is made up for, for positives and negatives apart.

    Args:
        truth: whether an image has the class [n].
        scores: the higher, the more likely it has [n].
        patients: number of the patient of each image, from 0 on [n].

    Returns:
        The AUC, and the influence of each patient [patients].

    Raises:
        ValueError: if there is no positive, or no negative.
    """
    places = placements(truth, scores)
    value = float(places[truth].mean())
    added = np.zeros(int(patients.max()) + 1)
    for side in (truth, ~truth):
        met = len(np.unique(patients[side]))
        scale = np.sqrt(met / max(met - 1, 1)) / side.sum()
        added += np.bincount(patients[side], weights=(places[side] - value) * scale, minlength=len(added))
    return value, added


def side_of(readings: Sequence[Reading]) -> Side:
    """The macro AUC of each reading of the same images, one for each run of a method.

    Raises:
        ValueError: if the readings differ in images or classes, or if there is none.
    """
    if not readings:
        raise ValueError("no reading to compare")
    first = readings[0]
    for other in readings[1:]:
        if (other.images, other.classes) != (first.images, first.classes) or not np.array_equal(
            other.truth, first.truth
        ):
            raise ValueError(
                f"{other.name} of one run and {first.name} of another were not read on the same images and classes"
            )
    number = {patient: row for row, patient in enumerate(dict.fromkeys(first.patients))}
    patients = np.array([number[patient] for patient in first.patients])
    pairs = [
        [
            auc_influence(reading.truth[:, column], reading.scores[:, column], patients)
            for column in range(len(reading.classes))
        ]
        for reading in readings
    ]
    values = np.array([[value for value, _ in run] for run in pairs])
    influence = np.array([[added for _, added in run] for run in pairs])
    return Side(values.mean(axis=1), influence.mean(axis=1))


def side_of_means(values: np.ndarray, patients: Sequence[tuple[str, str]]) -> Side:
    """The mean over images of a number that every image has by itself, such as its Dice.

    Args:
        values: of each run on the same images [runs, images].
        patients: who is seen on each image.
    """
    number = {patient: row for row, patient in enumerate(dict.fromkeys(patients))}
    rows = np.array([number[patient] for patient in patients])
    means, met = values.mean(axis=1), len(number)
    scale = np.sqrt(met / max(met - 1, 1)) / values.shape[1]
    gaps = (values - means[:, None]) * scale
    return Side(means, np.stack([np.bincount(rows, weights=own, minlength=met) for own in gaps]))


def mean_of(sides: Sequence[Side]) -> Side:
    """The unweighted mean of several numbers of the same runs on different patients, such as of all left-out sources."""
    influence = np.concatenate([side.influence for side in sides], axis=1) / len(sides)
    return Side(np.mean([side.values for side in sides], axis=0), influence)
