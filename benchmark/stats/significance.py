"""Accuracies with their uncertainty, and the test of a difference between two runs on the same cases.

All functions take plain arrays with one entry a case. `values` are 0/1 (wrong/right), or the mean over seeds of a case
(`average_seeds`): seeds share cases, so they are averaged per case and never pooled as if independent. `groups` names the patient
or eye of each case; the bootstrap and the sign-flip test draw whole groups.

What the p of a difference is: for two single runs the exact McNemar test, whose unit is the case; where several cases
share a group, or values are means over seeds, the sign-flip permutation test over groups, whose unit is the group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binom, permutation_test
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from benchmark.stats.bootstrap import DRAWS, Estimate, Resampling
from mgll.vocabulary.diseases import TEN_CLASSES

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


@dataclass(frozen=True)
class Summary:
    """The accuracies of one run.

    Attributes:
        n: number of cases.
        groups: number of clusters.
        overall: accuracy over cases, bootstrap over groups.
        wilson: the same with the Wilson interval, as if cases were independent.
        macro: unweighted mean of the classes' accuracies, bootstrap over groups.
        ten_class: the same over those of Table 2's ten classes that are present.
        ten_class_present: which these are.
    """

    n: int
    groups: int
    overall: Estimate
    wilson: Estimate
    macro: Estimate
    ten_class: Estimate
    ten_class_present: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """After minus before on the same cases.

    Attributes:
        overall, macro, ten_class: paired differences, bootstrap over groups.
        mcnemar: exact test over cases; None where values are means over seeds.
        sign_flip_p: permutation test of the overall difference over groups.
    """

    overall: Estimate
    macro: Estimate
    ten_class: Estimate
    mcnemar: McNemar | None
    sign_flip_p: float


def wilson(correct: float, n: int) -> Estimate:
    """Proportion `correct / n` with its Wilson 95 % interval. `correct` may be a sum of means over seeds."""
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan)
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} cases")
    low, high = proportion_confint(correct, n, method="wilson")
    return Estimate(correct / n, float(low), float(high))


def average_seeds(correct: ArrayLike) -> np.ndarray:
    """Mean over seeds of each case.

    Args:
        correct: [seeds, cases] 0/1.

    Returns:
        [cases] in 0..1.
    """
    table = np.asarray(correct, dtype=float)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"expected an array [seeds, cases], found shape {table.shape}")
    return np.asarray(table.mean(axis=0))


def mcnemar(before: ArrayLike, after: ArrayLike) -> McNemar:
    """Exact (binomial) McNemar test of two runs with 0/1 values on the same cases."""
    first, second = _same_length(before, after)
    if not (_is_binary(first) and _is_binary(second)):
        raise ValueError("McNemar's test takes 0/1; for means over seeds use sign_flip")
    only_before, only_after = int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())
    p = _mcnemar([[0, only_before], [only_after, 0]], exact=True).pvalue if only_before + only_after else 1.0
    smaller, discordant = min(only_before, only_after), only_before + only_after
    observed = binom.pmf(smaller, discordant, 0.5)
    mid_p = 2 * binom.cdf(smaller, discordant, 0.5) - observed
    if (
        only_before == only_after
    ):  # then no other outcome is as extreme, and half of this one is left out, not the whole
        mid_p = 1 - observed / 2 if discordant else 1.0
    return McNemar(only_before, only_after, min(float(p), 1.0), min(float(mid_p), 1.0))


def mcnemar_by_class(before: ArrayLike, after: ArrayLike, codes: Sequence[str] | ArrayLike) -> pd.DataFrame:
    """Exact McNemar test within each class, with Holm's correction over all classes.

    Every class counts in the correction, also one too small ever to reach 5 % (below six cases). The unit is the case; where
    several share a group, take these p-values as too small.

    Args:
        before: [cases] 0/1.
        after: [cases] 0/1.
        codes: [cases] class of each case.

    Returns:
        Table by class, the most frequent first: code, n, only_before, only_after, p, p_holm. A class changed at 5 % over the
        whole table where p_holm < 0.05.
    """
    first, second = _same_length(before, after)
    classes = _same_length(before, codes)[1]
    rows = []
    for code, n in per_class(second, classes)[["code", "n"]].itertuples(index=False):
        test = mcnemar(first[classes == code], second[classes == code])
        rows.append((code, n, test.only_before, test.only_after, test.p))
    table = pd.DataFrame(rows, columns=["code", "n", "only_before", "only_after", "p"])
    return table.assign(p_holm=multipletests(table["p"], method="holm")[1] if rows else [])


def sign_flip(difference: ArrayLike, groups: Sequence[str] | ArrayLike, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of the hypothesis that each group's summed difference is as likely negative as positive.

    The permutation test that swaps before and after for whole groups; exact where 2^groups <= `draws`.
    """
    values, clusters = _same_length(difference, groups)
    sums = np.bincount(_codes(clusters)[0], weights=values)
    sums = sums[sums != 0]
    if len(sums) < 2:  # both signs of a single sum are equally extreme
        return 1.0
    result = permutation_test(
        (sums,),
        lambda sample, axis: np.sum(sample, axis=axis),
        permutation_type="samples",
        n_resamples=draws,
        batch=_BATCH,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


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


def per_class(values: ArrayLike, codes: Sequence[str] | ArrayLike) -> pd.DataFrame:
    """Table by class: code, n, accuracy, low, high (Wilson 95 %), the most frequent class first."""
    scores, classes = _same_length(values, codes)
    table = pd.DataFrame({"code": classes, "value": scores}).groupby("code")["value"].agg(["size", "sum"])
    rows = []
    for code, n, correct in table.sort_values("size", ascending=False, kind="stable").itertuples():
        estimate = wilson(correct, n)
        rows.append((code, n, estimate.value, estimate.low, estimate.high))
    return pd.DataFrame(rows, columns=["code", "n", "accuracy", "low", "high"])


def informedness(option_codes: Sequence[Sequence[str]], answers: ArrayLike, chosen: ArrayLike) -> pd.DataFrame:
    """Per class: how much more often it is picked when it is true than when it is offered and false.

    A per-class accuracy alone rewards a liking for that class's name. On balanced options this difference is 0 in
    expectation for every strategy that does not see the image, and 1 for one that is always right.

    Args:
        option_codes: [cases][4] class codes.
        answers: [cases] index of the true option.
        chosen: [cases] index of the picked option.

    Returns:
        Table by class: code, true (times the answer), false (times offered and not the answer), picked_when_true,
        picked_when_false, informedness.
    """
    true, picked = (np.asarray(index)[:, None] == np.arange(4) for index in (answers, chosen))
    table = pd.DataFrame({"code": np.asarray(option_codes).ravel(), "true": true.ravel(), "picked": picked.ravel()})
    when_true, when_false = (table[table["true"] == side].groupby("code")["picked"] for side in (True, False))
    rates = pd.DataFrame(
        {
            "true": when_true.size(),
            "false": when_false.size(),
            "picked_when_true": when_true.mean(),
            "picked_when_false": when_false.mean(),
        }
    ).fillna({"true": 0, "false": 0})
    rates["informedness"] = rates["picked_when_true"] - rates["picked_when_false"]
    rates = rates.astype({"true": int, "false": int}).rename_axis("code").reset_index()
    return rates.sort_values("true", ascending=False, kind="stable", ignore_index=True)


def summarise(
    values: ArrayLike,
    codes: Sequence[str] | ArrayLike,
    groups: Sequence[str] | ArrayLike,
    draws: int = DRAWS,
    seed: int = 0,
    resampling: Resampling | None = None,
) -> Summary:
    """Overall, macro and ten-class accuracy of one run (or of several averaged per case) with intervals.

    A `resampling` of these cases that is at hand spares the drawing.
    """
    scores, classes = _same_length(values, codes)
    drawn = resampling or Resampling(_same_length(values, groups)[1], classes, draws, seed)
    return Summary(
        n=len(scores),
        groups=drawn.groups,
        overall=drawn.mean(scores),
        wilson=wilson(float(scores.sum()), len(scores)),
        macro=drawn.class_mean(scores),
        ten_class=drawn.class_mean(scores, TEN_CLASSES),
        ten_class_present=tuple(code for code in TEN_CLASSES if code in set(classes)),
    )


def compare(
    before: ArrayLike,
    after: ArrayLike,
    codes: Sequence[str] | ArrayLike,
    groups: Sequence[str] | ArrayLike,
    draws: int = DRAWS,
    seed: int = 0,
    resampling: Resampling | None = None,
) -> Comparison:
    """Difference of two runs on the same cases in the same order, with intervals and p.

    `resampling` holds draws of those cases, where they are at hand.
    """
    first, second = _same_length(before, after)
    classes, clusters = _same_length(before, codes)[1], _same_length(before, groups)[1]
    difference = second.astype(float) - first.astype(float)
    drawn = resampling or Resampling(clusters, classes, draws, seed)
    return Comparison(
        overall=drawn.mean(difference),
        macro=drawn.class_mean(difference),
        ten_class=drawn.class_mean(difference, TEN_CLASSES),
        mcnemar=mcnemar(first, second) if _is_binary(first) and _is_binary(second) else None,
        sign_flip_p=sign_flip(difference, clusters, draws, seed),
    )


def _codes(names: np.ndarray) -> tuple[np.ndarray, int]:
    # In order of first appearance: the draws then do not depend on how the groups are called.
    numbers, unique = pd.factorize(names)
    return numbers, len(unique)


def _same_length(values: ArrayLike, others: Sequence[str] | ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(values, dtype=float), np.asarray(others)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"one entry a case is needed in both, found shapes {first.shape} and {second.shape}")
    return first, second


def _is_binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())
