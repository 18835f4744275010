"""Whether probabilities can be believed: of the answers given with 80 % confidence, are 80 % right?

Two figures, both over the four options' probabilities (averaged over rotations where these were run):

- *Brier score*: squared distance between the four probabilities and the truth (1 for the true option, 0 for the others), summed
  over the options and averaged over cases (Brier 1950; 0 is perfect, 2 the worst; half of it is also in use). It is a proper score:
  no model gains by reporting other probabilities than it believes. Answering 25 % each gives 0.75, and the *skill* is the share
  of these 0.75 that the model does away with: 1 perfect, 0 no better than 25 % each, negative worse.
- *Expected calibration error* (ECE) of the top label: cases are sorted into bins by the probability of the chosen option, and
  the distances between mean confidence and accuracy of the bins are averaged, weighted by cases. Primary is the ECE over ten
  bins of equal mass; the one over ten bins of equal width is there for comparison with papers, though most cases often share
  one bin.

An ECE is never negative, so chance alone makes it positive: it is biased upwards, the more the fewer cases a bin has. Two things
make up for it. `ece_if_calibrated` says what a perfectly calibrated model with the same confidences and as many independent cases
would show: an ECE below its upper end is no evidence of miscalibration. And the interval is the basic (reversed percentile)
bootstrap interval cut off at 0, which takes the bias off where the percentile interval would add it once more: in simulations
with 300 cases and a true error of 6 points it covered that error in about 86 % of runs, the percentile interval in 46 %; with
2,233 cases both did in over 90 %.
Bins stay those of the whole set in every draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from benchmark.stats.bootstrap import Resampling
from benchmark.stats.rotations import expected_correct
from benchmark.stats.significance import DRAWS, Estimate, wilson

if TYPE_CHECKING:
    import pandas as pd

BINS = 10
_CHANCE_BRIER = 0.75  # of 25 % each: 0.75^2 + 3 * 0.25^2


@dataclass(frozen=True)
class Calibration:
    """Calibration of one run. All intervals but that of `ece_if_calibrated` are bootstrapped over groups.

    Attributes:
        n: number of cases.
        groups: number of clusters.
        brier: Brier score, 0 to 2.
        brier_skill: 1 - Brier score / 0.75.
        overconfidence: mean confidence less accuracy; positive where the model promises too much.
        ece: expected calibration error over bins of equal mass; the primary one.
        ece_equal_width: the same over bins of equal width.
        ece_if_calibrated: mean and central 95 % of the primary ECE of a perfectly calibrated model, by simulation.
        reliability: the table behind `ece`, as from `reliability_table`.
    """

    n: int
    groups: int
    brier: Estimate
    brier_skill: Estimate
    overconfidence: Estimate
    ece: Estimate
    ece_equal_width: Estimate
    ece_if_calibrated: Estimate
    reliability: "pd.DataFrame"


def calibrate(
    probabilities: ArrayLike,
    answers: ArrayLike,
    groups: Sequence[str] | ArrayLike,
    bins: int = BINS,
    draws: int = DRAWS,
    seed: int = 0,
    resampling: Resampling | None = None,
) -> Calibration:
    """Compute the calibration of one run.

    Args:
        probabilities: [cases, 4], each row summing to 1.
        answers: [cases] index of the true option.
        groups: [cases] cluster of each case.
        bins: of both ECEs.
        draws: of bootstrap and simulation.
        seed: of both.
        resampling: draws of these cases that are at hand.
    """
    values, true = _checked(probabilities, answers)
    confidence, correct = values.max(axis=1), expected_correct(values, true)
    drawn = resampling or Resampling(groups, draws=draws, seed=seed)
    brier = drawn.mean(brier_scores(values, true))
    mass, width = equal_mass_bins(confidence, bins), equal_width_bins(confidence, bins)
    return Calibration(
        n=len(true),
        groups=drawn.groups,
        brier=brier,
        brier_skill=Estimate(_skill(brier.value), _skill(brier.high), _skill(brier.low)),
        overconfidence=drawn.mean(confidence - correct),
        ece=_ece_interval(confidence - correct, mass, drawn),
        ece_equal_width=_ece_interval(confidence - correct, width, drawn),
        ece_if_calibrated=_ece_if_calibrated(confidence, mass, draws, seed),
        reliability=reliability_table(values, true, bins),
    )


def brier_scores(probabilities: ArrayLike, answers: ArrayLike) -> np.ndarray:
    """[cases] squared distance between the four probabilities and the truth, 0 to 2; their mean is the Brier score."""
    values, true = _checked(probabilities, answers)
    return np.asarray(((values - np.eye(4)[true]) ** 2).sum(axis=1))


def reliability_table(
    probabilities: ArrayLike, answers: ArrayLike, bins: int = BINS, equal_mass: bool = True
) -> "pd.DataFrame":
    """The table behind a reliability plot: confidence and accuracy by bin.

    A tie for the most probable option counts as its expectation, as in `rotations.expected_correct`.

    Returns:
        Table by bin, the least confident first, empty bins left out: bin, n, confidence (mean), accuracy, low, high (Wilson 95 %).
    """
    import pandas as pd  # here, because it takes a second to import

    values, true = _checked(probabilities, answers)
    confidence = values.max(axis=1)
    number = equal_mass_bins(confidence, bins) if equal_mass else equal_width_bins(confidence, bins)
    table = pd.DataFrame({"bin": number, "confidence": confidence, "correct": expected_correct(values, true)})
    rows = []
    for name, cases in table.groupby("bin"):
        accuracy = wilson(float(cases["correct"].sum()), len(cases))
        rows.append((name, len(cases), cases["confidence"].mean(), accuracy.value, accuracy.low, accuracy.high))
    return pd.DataFrame(rows, columns=["bin", "n", "confidence", "accuracy", "low", "high"])


def equal_mass_bins(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """[cases] number of the bin, as near to equally full as can be; equal confidences always share one."""
    last_of_bin = -(-len(confidence) * np.arange(1, bins) // bins) - 1
    return np.searchsorted(np.sort(confidence)[last_of_bin], confidence, side="left")


def equal_width_bins(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """[cases] number of the bin; bin k holds k/bins < confidence <= (k + 1)/bins."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")


def _skill(brier: float) -> float:
    return 1 - brier / _CHANCE_BRIER


def _ece_interval(gaps: np.ndarray, bins: np.ndarray, resampling: Resampling) -> Estimate:
    """ECE from confidence less correctness [cases], with its basic bootstrap interval over groups, not below 0."""
    value = float(np.abs(np.bincount(bins, weights=gaps)).sum() / len(gaps))
    drawn = np.abs(resampling.sums(gaps, bins)).sum(axis=0) / resampling.sizes
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, max(2 * value - float(high), 0.0), max(2 * value - float(low), 0.0))


def _ece_if_calibrated(confidence: np.ndarray, bins: np.ndarray, draws: int, seed: int) -> Estimate:
    """ECE of answers that are right exactly as often as promised: mean and central 95 %.

    A bin's right answers are then a sum of independent draws, for which the normal distribution of the same variance stands.
    """
    spread = np.sqrt(np.bincount(bins, weights=confidence * (1 - confidence)))
    noise = np.random.default_rng(seed).standard_normal((draws, len(spread)))
    drawn = np.abs(noise * spread).sum(axis=1) / len(confidence)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(drawn.mean()), float(low), float(high))


def _checked(probabilities: ArrayLike, answers: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    values, true = np.asarray(probabilities, dtype=float), np.asarray(answers, dtype=int)
    if values.ndim != 2 or values.shape[1] != 4 or true.shape != values.shape[:1] or not len(true):
        raise ValueError(
            f"expected probabilities [cases, 4] and answers [cases], found {values.shape} and {true.shape}"
        )
    if not (values >= 0).all() or (np.abs(values.sum(axis=1) - 1) > 1e-3).any():
        raise ValueError("the four probabilities of a case must be 0 or more and sum to 1")
    if true.min() < 0 or true.max() > 3:
        raise ValueError(f"answers are numbered 0 to 3; found {true.min()} to {true.max()}")
    return values, true
