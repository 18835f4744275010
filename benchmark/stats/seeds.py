"""What runs say about the method that made them: seeds and patients are both random.

Two sets of weights always differ. Whether two *methods* differ asks what another seed would have given, and other patients. Runs
are crossed with patients here as readers are with cases in studies of diagnostic imaging (Obuchowski and Rockette 1995; Hillis
2007): the variance of a difference of two means over runs is

    V = V_runs + V_patients - V_both

with V_runs from the scatter of the runs' own numbers, V_patients from the scatter of patients of the numbers averaged over runs,
and V_both the part of patients within runs that the other two both hold. V is never taken smaller than the larger of the first two.
The interval is that of Student's t with Satterthwaite's degrees of freedom of V_runs and, for a difference, of what V_patients has
beyond V_both; with as many runs on both sides the runs have those of a pooled variance. With three runs a side they are few: the
interval says so by its width. With one run on a side V_runs can't be known, and nothing is claimed about the method.

`python -m benchmark.calibrate_claims` simulates how often these intervals err.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, nan, sqrt

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchmark.stats.bootstrap import Estimate
from benchmark.stats.numbers import Number, Questions

#: So many seeds are tried before it is said that more of them would not help.
MOST_SEEDS = 200


@dataclass(frozen=True)
class OverSeeds:
    """A number of a method, or the difference of two methods, with runs and patients as random.

    Attributes:
        estimate: mean over runs (a difference: of the second less the first), with its 95 % interval.
        by_run: the number of each run; for a difference empty.
        p: two-sided p of no difference; for a single method NaN.
        between_runs: standard deviation of the number between runs of one method (of a difference: pooled).
        from_runs: part of the variance of `estimate` that comes from the runs.
        from_patients: part that comes from the patients beyond what they add to the runs' scatter.
        degrees: degrees of freedom of the interval.
        runs: number of runs on each side.
    """

    estimate: Estimate
    by_run: tuple[float, ...]
    p: float
    between_runs: float
    from_runs: float
    from_patients: float
    degrees: float
    runs: tuple[int, ...]

    def power(self, seeds: int, difference: float, level: float = 0.05) -> float:
        """Probability of finding a true difference of two methods when each has so many seeds; NaN with one."""
        if seeds < 2:
            return nan
        runs = 2 * self.between_runs**2 / seeds
        variance = runs + self.from_patients
        if variance == 0:
            return float(difference != 0)
        degrees = _satterthwaite(variance, runs, 2 * (seeds - 1), inf)
        return float(
            scipy.stats.nct.sf(scipy.stats.t.ppf(1 - level / 2, degrees), degrees, abs(difference) / sqrt(variance))
        )

    def detectable(self, seeds: int, power: float = 0.8) -> float:
        """Smallest difference found with probability `power` when each of two methods has so many seeds; NaN with one."""
        if seeds < 2:
            return nan
        largest = 1000 * sqrt(2 * self.between_runs**2 + self.from_patients)
        if largest == 0:
            return 0.0
        return float(
            scipy.optimize.brentq(lambda difference: self.power(seeds, difference) - power, 0, largest, xtol=1e-5)
        )

    def seeds_needed(self, difference: float, power: float = 0.8) -> int | None:
        """Seeds that each method would need for a true difference of this size; None if these patients are too few for any."""
        if self.power(MOST_SEEDS, difference) < power:
            return None
        few, enough = 1, MOST_SEEDS
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if self.power(middle, difference) >= power else (middle, enough)
        return enough


def method_number(number: Number, questions: Questions, runs: Sequence[np.ndarray]) -> OverSeeds:
    """A number of the method behind some runs.

    Args:
        number: which.
        questions: the questions that all runs answered.
        runs: how far each option was picked [cases, 4], a run each.

    Returns:
        The mean over the runs. With one run its interval is over patients alone.
    """
    return number_over_seeds(_values(number, runs), _influence(number, questions, runs), number.bounds)


def method_difference(
    number: Number, questions: Questions, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> OverSeeds:
    """The difference of two methods in a number: mean over the runs of `after` less that of `before`.

    Args:
        number: which.
        questions: the questions that all runs answered.
        before: how far each option was picked [cases, 4], a run each; runs of the two sides are not paired.
        after: the other method's.
    """
    values = [_values(number, side) for side in (before, after)]
    influence = [_influence(number, questions, side) for side in (before, after)]
    return difference_over_seeds(values, influence, number.bounds)


def number_over_seeds(values: np.ndarray, influence: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> OverSeeds:
    """A number of the method behind some runs, if it is, at least to first order, a sum over patients.

    Args:
        values: the number of each run [runs].
        influence: what each patient adds to it beyond what is expected of one [runs, patients], as `mgll.evaluation.comparing`
            has it of a macro AUC.
        bounds: the least and the largest that the number can be.

    Returns:
        The mean over the runs. With one run its interval is over patients alone.
    """
    found = _assemble(float(values.mean()), tuple(values.tolist()), [values], [influence], influence.mean(axis=0))
    return replace(found, estimate=_within(found.estimate, *bounds))


def difference_over_seeds(
    values: Sequence[np.ndarray], influence: Sequence[np.ndarray], bounds: tuple[float, float] = (0.0, 1.0)
) -> OverSeeds:
    """The difference of two methods in such a number: mean over the runs of the second less that of the first.

    Args:
        values: the number of each run, of both methods [runs] each; runs of the two sides are not paired.
        influence: of both methods [runs, patients] each, the same patients.
        bounds: the least and the largest that the number can be.

    Returns:
        With one run on a side the interval and p are over patients alone: about these weights, not about the methods.
    """
    difference = float(values[1].mean() - values[0].mean())
    found = _assemble(difference, (), values, influence, influence[1].mean(axis=0) - influence[0].mean(axis=0))
    low, high = bounds
    return replace(found, estimate=_within(found.estimate, low - high, high - low))


def corrected(p: ArrayLike) -> np.ndarray:
    """Holm's correction over several tests; a p that is NaN stays so and is not counted."""
    values = np.asarray(p, dtype=float)
    known = ~np.isnan(values)
    result = np.full(len(values), nan)
    if known.any():
        from statsmodels.stats.multitest import multipletests  # here, because it takes a second to import

        result[known] = multipletests(values[known], method="holm")[1]
    return result


def _within(estimate: Estimate, low: float, high: float) -> Estimate:
    """The estimate with the ends of its interval within what is possible."""
    return Estimate(estimate.value, max(estimate.low, low), min(estimate.high, high))


def _values(number: Number, runs: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([number.value(picked) for picked in runs])


def _influence(number: Number, questions: Questions, runs: Sequence[np.ndarray]) -> np.ndarray:
    """[runs, groups] what each group adds to the number beyond what is expected of it."""
    groups = questions.group_numbers
    return np.array([np.bincount(groups, weights=number.influence(picked)) for picked in runs])


def _assemble(
    value: float,
    by_run: tuple[float, ...],
    values: Sequence[np.ndarray],
    influence: Sequence[np.ndarray],
    together: np.ndarray,
) -> OverSeeds:
    counts = tuple(len(side) for side in values)
    # Groups that no question of the number concerns add nothing; only the others are a sample.
    groups = int((np.concatenate(influence) != 0).any(axis=0).sum())
    patients = float((together**2).sum()) * groups / max(groups - 1, 1)
    scatter = [float(side.var(ddof=1)) if len(side) > 1 else 0.0 for side in values]
    runs = sum(variance / count for variance, count in zip(scatter, counts, strict=True))
    both = sum(
        float(((side - side.mean(axis=0)) ** 2).sum()) / (len(side) * (len(side) - 1))
        for side in influence
        if len(side) > 1
    )
    is_difference = len(counts) == 2
    beyond = max(patients - both, 0.0)
    variance = max(runs + beyond, patients)
    degrees = _satterthwaite(
        variance, runs, _degrees_of_runs(scatter, counts), max(groups - 1, 1), beyond if is_difference else patients
    )
    half = float(scipy.stats.t.ppf(0.975, degrees)) * sqrt(variance) if variance else 0.0
    if not is_difference:
        p = nan
    elif variance:
        p = float(2 * scipy.stats.t.sf(abs(value) / sqrt(variance), degrees))
    else:
        p = 1.0 if value == 0 else nan
    known = [entry for entry, count in zip(scatter, counts, strict=True) if count > 1]
    between = sqrt(sum(known) / len(known)) if known else nan
    return OverSeeds(Estimate(value, value - half, value + half), by_run, p, between, runs, beyond, degrees, counts)


def _degrees_of_runs(scatter: Sequence[float], counts: Sequence[int]) -> float:
    """Degrees of freedom of the variance between runs; infinite where there is none to estimate.

    Those of a pooled variance where both sides have as many runs, which is then right however unequal the two variances are, up to
    a little; Welch's where they have not.
    """
    if len(set(counts)) == 1 and counts[0] > 1:
        return float(sum(count - 1 for count in counts))
    parts = [(variance / count, count - 1) for variance, count in zip(scatter, counts, strict=True) if count > 1]
    total = sum(part for part, _ in parts)
    if not parts:
        return inf
    if total == 0:
        return float(sum(freedom for _, freedom in parts))
    return total**2 / sum(part**2 / freedom for part, freedom in parts)


def _satterthwaite(
    variance: float, runs: float, of_runs: float, of_patients: float, patients: float | None = None
) -> float:
    """Degrees of freedom of a sum of the runs' and the patients' variances."""
    patients = variance - runs if patients is None else patients
    below = (runs**2 / of_runs if isfinite(of_runs) else 0.0) + (
        patients**2 / of_patients if isfinite(of_patients) else 0.0
    )
    if below == 0:
        return of_runs if isfinite(of_runs) else 1e6
    return float(max(variance**2 / below, 1.0))
