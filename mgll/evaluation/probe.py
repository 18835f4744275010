"""Readers of frozen features: a linear probe whose strength is chosen on validation, and the nearest neighbours.

The probe is one logistic regression against the rest for each class (scikit-learn), on features of mean 0 and variance 1, positives
and negatives weighted alike. What that adds to the logits is taken off again, so that their sigmoid is a probability at the class's
own frequency. One strength serves all classes; it is the one with the best macro AUC on validation, from one grid for every tower.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgll.evaluation.metrics import auc

#: Inverse strengths C that are tried, from the strongest regularisation on.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
#: So many strengths in a row must read worse than the best one before the weaker ones are left untried.
_PATIENCE = 2
_ITERATIONS = 2000
#: A class is chosen by only if it has so many positives, and negatives, in the validation images, if any class has.
_CHOOSE = 5


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        strength: the inverse strength C that was chosen.
        tried: strength -> macro AUC on validation.
        mean: of the training features [width].
        deviation: of the training features [width]; 1 where a channel never changes.
        weights: [width, classes].
        offsets: [classes].
        not_fitted: columns of classes without a positive or a negative to learn from; their scores are all equal.
    """

    strength: float
    tried: Mapping[float, float]
    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    not_fitted: tuple[int, ...]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits [n, classes] of features [n, width]."""
        scaled = (features - self.mean) / self.deviation
        return np.asarray(scaled @ self.weights + self.offsets, dtype=float)


def fit_probe(
    train: np.ndarray,
    train_truth: np.ndarray,
    validation: np.ndarray,
    validation_truth: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fit a probe for every strength, and keep the one that reads best on validation.

    Weaker regularisation is left untried once two strengths in a row have read worse than the best one before.

    Args:
        train: features [N, width].
        train_truth: whether a training image has a class [N, classes].
        validation: features of other patients' images [M, width].
        validation_truth: [M, classes].
        strengths: inverse strengths C; with a single one, validation is not needed and may be empty.

    Raises:
        ValueError: if there is more than one strength, and validation has no class with positives and negatives.
    """
    # here, because scikit-learn takes a moment to import
    from sklearn.linear_model import LogisticRegression

    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    scaled = np.ascontiguousarray((train - mean) / deviation, dtype=np.float32)
    if len(strengths) > 1 and not _judged(validation_truth):
        raise ValueError(
            "no class has images with it and without it in validation, by which a strength could be chosen"
        )
    positives = train_truth.sum(axis=0)
    fitted = [c for c in range(train_truth.shape[1]) if 0 < positives[c] < len(train)]
    models = [LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS, warm_start=True) for _ in fitted]
    best: Probe | None = None
    tried: dict[float, float] = {}
    for strength in sorted(strengths):
        weights, offsets = np.zeros((train.shape[1], train_truth.shape[1])), np.zeros(train_truth.shape[1])
        for c, model in zip(fitted, _fit_all(models, scaled, train_truth[:, fitted], strength), strict=True):
            weights[:, c] = model.coef_[0]
            # positives were weighed (N - positives) / positives times as much as negatives
            offsets[c] = model.intercept_[0] - np.log((len(train) - positives[c]) / positives[c])
        not_fitted = tuple(c for c in range(train_truth.shape[1]) if c not in fitted)
        probe = Probe(strength, tried, mean, deviation, weights, offsets, not_fitted)
        if len(strengths) == 1:
            return probe
        tried[strength] = judged_auc(validation_truth, probe.scores(validation))
        if best is None or tried[strength] > tried[best.strength]:
            best = probe
        elif list(tried).index(best.strength) < len(tried) - _PATIENCE:
            break
    assert best is not None
    return best


def judged_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """The macro AUC by which settings are chosen: over the classes with enough images on both sides, if any class has them.

    Args:
        truth: whether a validation image has a class [M, classes]; one class at least has positives and negatives.
        scores: [M, classes].
    """
    return float(np.mean([auc(truth[:, c], scores[:, c]) for c in _judged(truth)]))


def _judged(truth: np.ndarray) -> list[int]:
    """Columns of the classes by which a strength is chosen."""
    fewest = [min(int(column.sum()), int((~column).sum())) for column in truth.T]
    least = _CHOOSE if max(fewest, default=0) >= _CHOOSE else 1
    return [c for c, count in enumerate(fewest) if count >= least]


def _fit_all(models: list[Any], features: np.ndarray, truth: np.ndarray, strength: float) -> list[Any]:
    """Fit one model a class from where the last strength left it, several at a time."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda model, y: model.set_params(C=strength).fit(features, y), models, truth.T))


def neighbour_scores(
    train: np.ndarray, train_truth: np.ndarray, features: np.ndarray, neighbours: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Logits [n, classes] by the nearest training images: their share that has the class, weighed by exp(cosine / temperature).

    Args:
        train: features [N, width].
        train_truth: whether a training image has a class [N, classes].
        features: [n, width].
        neighbours: how many are asked; all, if there are fewer.
        temperature: DINO's, 0.07.
    """
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=min(neighbours, len(train)), metric="cosine", algorithm="brute").fit(train)
    distances, rows = found.kneighbors(features)
    weights = np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    shares = np.einsum("nk,nkc->nc", weights, train_truth[rows].astype(float)).clip(1e-6, 1 - 1e-6)
    return np.asarray(np.log(shares / (1 - shares)))
