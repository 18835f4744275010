"""Accuracies with their uncertainty, and the test of a difference between two runs on the same cases.

All functions take plain arrays with one entry a case. `values` are 0/1 (wrong/right). `groups` names the patient or eye of each
case; the bootstrap and the sign-flip test draw whole groups.

All of this is about given sets of weights: patients are random, runs are not. What several runs say about the method that made them
is in `benchmark.stats.seeds`. The p of a difference of two runs is that of the sign-flip permutation test over groups; McNemar's
exact test, whose unit is the case, is right only where no two cases share a group (with the questions about real photographs here
it rejects a true null in 28 % of simulated studies).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchmark.stats.bootstrap import DRAWS, Estimate, Resampling
from benchmark.stats.first_seen import first_seen

_BATCH = 500  # permutations at a time: keeps their matrix at a few MB


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two runs on the same cases.

    Attributes:
        only_before, only_after: how many cases only the first, or only the second, got right.
        p: exact (binomial) two-sided p; rejects no more often than its level says, mostly less.
        mid_p: the same with only half of the probability of outcomes as extreme as the observed one: closer to its level, rarely
            just above it (Fagerland, Lydersen and Laake 2013). 1 where no case tells the runs apart.
    """

    only_before: int
    only_after: int
    p: float
    mid_p: float


def wilson(correct: float, n: int) -> Estimate:
    """Proportion `correct / n` with its Wilson 95 % interval. `correct` may be a sum of means over seeds."""
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan)
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} cases")
    low, high = _wilson(correct, n)
    return Estimate(correct / n, low, high)


def clustered_share(values: ArrayLike, groups: Sequence[str] | ArrayLike) -> Estimate:
    """Mean of values in 0..1 over cases with a 95 % interval for cases that share patients: Wilson's with the effective number.

    The effective number of cases is that at which independent cases would scatter as the patients do (Korn and Graubard 1998),
    never above the number of cases, and less where patients are few. Where all values are equal no scatter can be seen, and
    patients count once each.

    Args:
        values: [cases].
        groups: [cases] patient or eye.
    """
    scores, clusters = _same_length(values, groups)
    n, count = len(scores), len(set(clusters.tolist()))
    if not n:
        return wilson(0, 0)
    share = float(scores.mean())
    totals = np.bincount(first_seen(clusters)[0], weights=scores - share)
    variance = float((totals**2).sum()) / n**2 * count / max(count - 1, 1)
    effective = min(share * (1 - share) / variance, n) if variance > 0 and count > 1 else float(count)
    # Few patients tell little of their scatter: Student's t instead of the normal.
    effective *= float((scipy.stats.norm.ppf(0.975) / scipy.stats.t.ppf(0.975, max(count - 1, 1))) ** 2)
    low, high = _wilson(share * effective, effective)
    return Estimate(share, max(low, 0.0), min(high, 1.0))


def mcnemar(before: ArrayLike, after: ArrayLike) -> McNemar:
    """Exact (binomial) McNemar test of two runs with 0/1 values on the same cases."""
    first, second = _same_length(before, after)
    if not (_is_binary(first) and _is_binary(second)):
        raise ValueError("McNemar's test takes 0/1; for means over seeds use sign_flip")
    only_before, only_after = int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())
    from statsmodels.stats.contingency_tables import mcnemar as exact_test  # here, because it takes a second to import

    p = exact_test([[0, only_before], [only_after, 0]], exact=True).pvalue if only_before + only_after else 1.0
    smaller, discordant = min(only_before, only_after), only_before + only_after
    observed = scipy.stats.binom.pmf(smaller, discordant, 0.5)
    mid_p = 2 * scipy.stats.binom.cdf(smaller, discordant, 0.5) - observed
    if (
        only_before == only_after
    ):  # then no other outcome is as extreme, and half of this one is left out, not the whole
        mid_p = 1 - observed / 2 if discordant else 1.0
    return McNemar(only_before, only_after, min(float(p), 1.0), min(float(mid_p), 1.0))


def sign_flip(difference: ArrayLike, groups: Sequence[str] | ArrayLike, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of the hypothesis that each group's summed difference is as likely negative as positive.

    The permutation test that swaps before and after for whole groups; exact where 2^groups <= `draws`.
    """
    values, clusters = _same_length(difference, groups)
    sums = np.bincount(first_seen(clusters)[0], weights=values)
    sums = sums[sums != 0]
    if len(sums) < 2:  # both signs of a single sum are equally extreme
        return 1.0
    least = abs(sums.sum()) * (1 - 1e-12)  # sums in another order differ in their last digits
    if 2 ** len(sums) <= draws:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
        return float((np.abs(signs @ sums) >= least).mean())
    random, extreme = np.random.default_rng(seed), 0
    for start in range(0, draws, _BATCH):
        signs = 2.0 * random.integers(0, 2, (min(_BATCH, draws - start), len(sums)), dtype=np.int8) - 1
        extreme += int((np.abs(signs @ sums) >= least).sum())
    return (extreme + 1) / (draws + 1)  # the difference as it is found is one of the draws


def bootstrap(
    values: ArrayLike,
    groups: Sequence[str] | ArrayLike,
    codes: Sequence[str] | ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Mean over cases, or with `codes` over classes, from a `Resampling` of its own."""
    resampling = Resampling(groups, codes, draws, seed)
    return resampling.mean(values) if codes is None else resampling.class_mean(values)


def _wilson(correct: float, n: float) -> tuple[float, float]:
    from statsmodels.stats.proportion import proportion_confint  # here, because it takes a second to import

    low, high = proportion_confint(correct, n, method="wilson")
    return float(low), float(high)


def _same_length(values: ArrayLike, others: Sequence[str] | ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(values, dtype=float), np.asarray(others)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"one entry a case is needed in both, found shapes {first.shape} and {second.shape}")
    return first, second


def _is_binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())
