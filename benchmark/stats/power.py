"""The smallest difference between two runs that a set of cases could have shown.

"No difference was found" says little without it. It is the minimal detectable difference of the paired test: the difference in
accuracy that McNemar's test at 5 % would have found with 80 % probability, given how many cases there are and on how many of them
the two runs disagree (one right, the other wrong: discordant). Only that share is taken from the data, never the observed
difference, so this is not the "observed power" that merely repeats the p-value. Before an experiment, plan with the share expected.

Where several cases share a patient they say less than as many independent ones. The design effect is by how much: the variance
that the cluster bootstrap gives the difference, over its variance if cases were independent. n cases then count as n / effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchmark.stats.first_seen import first_seen
from benchmark.stats.significance import mcnemar

#: Which of the two p-values of `significance.mcnemar` is held against the level.
Test = Literal["exact", "mid-p"]


@dataclass(frozen=True)
class Detectable:
    """The smallest difference that a comparison of two runs could have shown.

    Attributes:
        n: number of cases.
        groups: number of clusters.
        discordant: share of the cases on which exactly one of the runs is right.
        design_effect: variance of the difference with clusters over that without; 1 where every case is its own group.
        effective_n: number of independent cases that would say as much; never above `n`.
        difference: smallest difference in accuracy found with probability `power`; NaN where even the largest would be missed.
        power: probability with which it is found.
        level: of the two-sided test.
    """

    n: int
    groups: int
    discordant: float
    design_effect: float
    effective_n: int
    difference: float
    power: float
    level: float


def mcnemar_power(n: int, discordant: float, difference: float, level: float = 0.05, test: Test = "exact") -> float:
    """Probability that McNemar's two-sided test finds a difference, summed over every possible outcome; no approximation.

    The number of discordant cases is binomial (n, `discordant`); among m of them those that only the better run gets right are
    binomial (m, (discordant + difference) / (2 discordant)).

    Args:
        n: independent cases.
        discordant: expected share of them on which exactly one run is right.
        difference: true difference in accuracy, of either sign; never larger than `discordant`.
        level: of the test.
        test: exact, or mid-p.
    """
    if not 0 <= abs(difference) <= discordant <= 1:
        raise ValueError(
            f"a difference of {difference} needs at least that share of discordant cases, not {discordant}"
        )
    if discordant == 0:
        return 0.0
    disagree = np.arange(n + 1)
    most = _rejected_up_to(disagree, level, test)
    better = (discordant + abs(difference)) / (2 * discordant)
    rejected = scipy.stats.binom.cdf(most, disagree, better) + scipy.stats.binom.sf(
        disagree - most - 1, disagree, better
    )
    return float((scipy.stats.binom.pmf(disagree, n, discordant) * rejected).sum())


def detectable_difference(
    n: int, discordant: float, power: float = 0.8, level: float = 0.05, test: Test = "exact"
) -> float:
    """Smallest difference in accuracy, as a fraction, that McNemar's test finds with probability `power`.

    A difference can't exceed the share of discordant cases. Where `discordant` is too small for any difference to be found, the
    figure is that of a change which makes no case worse, so that all discordant cases point one way.

    Args:
        n: independent cases.
        discordant: share of them on which exactly one run is right, observed or planned.
        power: probability of finding the difference.
        level: of the test.
        test: exact, or mid-p.

    Returns:
        The difference; NaN where so few cases can't show even one of 100 points.
    """
    if n < 1 or not 0 <= discordant <= 1:
        raise ValueError(f"n is {n} and the share of discordant cases {discordant}; need n >= 1 and a share in 0..1")

    def excess(difference: float) -> float:
        return mcnemar_power(n, max(discordant, difference), difference, level, test) - power

    return float(scipy.optimize.brentq(excess, 0, 1, xtol=1e-6)) if excess(1) >= 0 else float("nan")


def design_effect(values: ArrayLike, groups: Sequence[str] | ArrayLike) -> float:
    """Variance of the mean of `values` when whole groups are drawn, over its variance when cases are.

    The first is what `significance.bootstrap` draws at random, in closed form: the mean is a ratio (sum of the groups' totals over
    the sum of their sizes), linearised. The second is the binomial p (1 - p) / n for 0/1 values, and for differences of two runs
    (discordant - difference^2) / n.

    Args:
        values: [cases] 0/1, or after minus before.
        groups: [cases] cluster of each case.

    Returns:
        1 where every case is its own group (or all values are equal), m where groups of m cases always agree; below 1 where cases
        of a group differ more than others.
    """
    scores = np.asarray(values, dtype=float)
    names = np.asarray(groups)
    if scores.ndim != 1 or scores.shape != names.shape or not len(scores):
        raise ValueError(f"one entry a case is needed in both, found shapes {scores.shape} and {names.shape}")
    residuals = scores - scores.mean()
    independent = float((residuals**2).sum())
    totals = np.bincount(first_seen(names)[0], weights=residuals)
    return float((totals**2).sum() / independent) if independent else 1.0


def detectable(
    before: ArrayLike,
    after: ArrayLike,
    groups: Sequence[str] | ArrayLike,
    power: float = 0.8,
    level: float = 0.05,
    test: Test = "exact",
) -> Detectable:
    """The smallest difference that two runs on the same cases could have shown, given their discordance and clustering.

    Both runs have the value 0 or 1 for each case.

    A design effect below 1 is reported but counts as 1: with few groups it is mostly chance, and the figure stays cautious.
    """
    pairs = mcnemar(before, after)
    difference = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    effect, n = design_effect(difference, groups), len(difference)
    discordant = (pairs.only_before + pairs.only_after) / n
    effective = max(int(n / max(effect, 1.0)), 1)
    smallest = detectable_difference(effective, discordant, power, level, test)
    return Detectable(n, len(np.unique(np.asarray(groups))), discordant, effect, effective, smallest, power, level)


def _rejected_up_to(disagree: np.ndarray, level: float, test: Test) -> np.ndarray:
    """For each number of discordant cases: the largest smaller count that the test rejects, -1 where it rejects none."""

    def p(smaller: np.ndarray) -> np.ndarray:
        half = 0.5 * scipy.stats.binom.pmf(smaller, disagree, 0.5) if test == "mid-p" else 0.0
        return np.asarray(2 * (scipy.stats.binom.cdf(smaller, disagree, 0.5) - half))

    most = (
        np.asarray(scipy.stats.binom.ppf(level / 2, disagree, 0.5)) + 1
    )  # never too small; the right one is at most two below
    for _ in range(3):
        most = np.where(p(most) > level, most - 1, most)
    return most
