"""The design of balanced options: how often each set of four classes is drawn."""

from collections.abc import Sequence

import numpy as np
import scipy


def capped_shares(counts: Sequence[int], cap: float = 0.25) -> np.ndarray:
    """Shares proportional to `counts` with none above `cap`, the excess spread over the rest in proportion; they sum to 1."""
    weights, shares = np.asarray(counts, dtype=float), np.full(len(counts), np.nan)
    while True:
        free = np.isnan(shares)
        proposal = (1 - cap * (~free).sum()) * weights / weights[free].sum()
        over = free & (proposal > cap + 1e-12)
        if not over.any():
            return np.where(free, proposal, shares)
        shares[over] = cap
        if not np.isnan(shares).any():
            return shares


def set_design(sets: np.ndarray, inclusion: np.ndarray) -> np.ndarray:
    """Maximum-entropy probabilities of the given fixed-size sets with the given inclusion probabilities.

    P(S) is proportional to the product of one weight per class. The weights' logarithms maximise a concave likelihood; its slight
    ridge keeps them finite where a target is 1 or can't be reached.

    Args:
        sets: [sets, size] class indices.
        inclusion: [classes] wanted probability that a class is in the drawn set; they sum to the size.

    Returns:
        [sets] probabilities.
    """
    ridge = 1e-5

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scores = theta[sets].sum(axis=1)
        norm = float(scipy.special.logsumexp(scores))
        reached = inclusion_of(sets, np.exp(scores - norm), len(theta))
        return norm - inclusion @ theta + ridge / 2 * theta @ theta, reached - inclusion + ridge * theta

    start = np.log(np.maximum(inclusion, 1e-6))
    theta = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-8}
    ).x
    scores = theta[sets].sum(axis=1)
    return np.exp(scores - scipy.special.logsumexp(scores))


def inclusion_of(sets: np.ndarray, probability: np.ndarray, classes: int) -> np.ndarray:
    """[classes] probability that each class is in a set drawn with these probabilities."""
    return np.bincount(sets.ravel(), np.repeat(probability, sets.shape[1]), minlength=classes)
