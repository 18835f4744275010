"""What a table of scores is worth: AUC, average precision, accuracy, sensitivity at a specificity, calibration.

`truth` is [images, classes] of bool, `scores` [images, classes] of logits. An image has exactly one of the classes (multi-class) or
any number of them (multi-label); `summarise` says which it took. The numbers equal those of scikit-learn and torchmetrics.
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

#: Specificity at which sensitivity is read.
SPECIFICITY = 0.9
_BINS = 15


@dataclass(frozen=True)
class Summary:
    """The numbers of one reading, each a share between 0 and 1.

    Attributes:
        multi_class: whether every image has exactly one class.
        auc: unweighted mean over classes of the area under the ROC curve.
        average_precision: unweighted mean over classes of the average precision (the paper's mAP).
        accuracy: multi-class, images whose highest score is that of their class; multi-label, mean over classes of the share of
            images on the right side of a probability of one half (the paper's ACC).
        class_accuracy: multi-class, mean over classes of the share of their images that get them (category-wise mean accuracy);
            multi-label, mean over classes of the mean of sensitivity and specificity at one half.
        sensitivity: mean over classes of the sensitivity at a specificity of at least `SPECIFICITY`.
        calibration_error: expected difference between confidence and accuracy in bins of confidence (ECE); multi-label, its mean
            over classes.
    """

    multi_class: bool
    auc: float
    average_precision: float
    accuracy: float
    class_accuracy: float
    sensitivity: float
    calibration_error: float


def placements(truth: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """How an image lies among those of the other kind [n]: a positive's share of negatives below, a negative's of positives above.

    Equal scores count half. The mean over positives is the AUC, and so is that over negatives.

    Raises:
        ValueError: if there is no positive, or no negative, or a score is NaN or infinite.
    """
    is_true, values = np.asarray(truth, dtype=bool), _finite(scores)
    positives = int(is_true.sum())
    negatives = len(is_true) - positives
    if not positives or not negatives:
        raise ValueError(f"an AUC needs both kinds of images, found {positives} positives and {negatives} negatives")
    ranks = scipy.stats.rankdata(values)
    found = np.empty(len(values))
    found[is_true] = (ranks[is_true] - scipy.stats.rankdata(values[is_true])) / negatives
    found[~is_true] = 1 - (ranks[~is_true] - scipy.stats.rankdata(values[~is_true])) / positives
    return found


def auc(truth: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve; raises what `placements` raises."""
    return float(placements(truth, scores)[np.asarray(truth, dtype=bool)].mean())


def sensitivity_at(truth: ArrayLike, scores: ArrayLike, specificity: float = SPECIFICITY) -> float:
    """The largest sensitivity of all thresholds at which the specificity is at least this."""
    from sklearn.metrics import roc_curve

    false_positives, true_positives, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(true_positives[1 - false_positives >= specificity].max())


def calibration_error(right: ArrayLike, confidence: ArrayLike, bins: int = _BINS) -> float:
    """Expected calibration error: mean over images of the difference, in their bin of confidence, of confidence and share right.

    A confidence of 1 lies in the last bin (torchmetrics puts it into one of its own). Raises `ValueError` for one that is NaN.
    """
    is_right, sure = np.asarray(right, dtype=float), _finite(confidence)
    where = np.digitize(sure, np.linspace(0, 1, bins + 1)[1:-1])
    gaps = np.bincount(where, weights=sure - is_right, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def summarise(truth: np.ndarray, scores: np.ndarray) -> Summary:
    """All numbers of a table.

    Raises:
        ValueError: if there is no class, a class has no positive or no negative, or a score is NaN or infinite.
    """
    from sklearn.metrics import average_precision_score

    if not truth.size:
        raise ValueError(f"a table of scores needs images and classes, found {' x '.join(map(str, truth.shape))}")
    aucs = [auc(truth[:, column], scores[:, column]) for column in range(truth.shape[1])]
    columns = [(truth[:, column], scores[:, column]) for column in range(truth.shape[1])]
    multi_class = bool((truth.sum(axis=1) == 1).all())
    if multi_class:
        probabilities = scipy.special.softmax(scores, axis=1)
        right = truth[np.arange(len(truth)), scores.argmax(axis=1)]
        accuracy = float(right.mean())
        class_accuracy = float(np.mean([right[is_true].mean() for is_true, _ in columns]))
        gap = calibration_error(right, probabilities.max(axis=1))
    else:
        said, probabilities = scores > 0, scipy.special.expit(scores)
        accuracy = float((said == truth).mean())
        class_accuracy = float(
            np.mean([(said[t, c].mean() + 1 - said[~t, c].mean()) / 2 for c, (t, _) in enumerate(columns)])
        )
        gap = float(np.mean([calibration_error(t, probabilities[:, c]) for c, (t, _) in enumerate(columns)]))
    return Summary(
        multi_class,
        float(np.mean(aucs)),
        float(np.mean([average_precision_score(*column) for column in columns])),
        accuracy,
        class_accuracy,
        float(np.mean([sensitivity_at(*column) for column in columns])),
        gap,
    )


def _finite(scores: ArrayLike) -> np.ndarray:
    values = np.asarray(scores, dtype=float)
    if wrong := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{wrong} of {values.size} scores are NaN or infinite")
    return values
